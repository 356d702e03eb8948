//! What a container uses, as containerd's message `io.containerd.cgroups.v2.Metrics`, from the files of its control group
//! (the kernel's admin-guide/cgroup-v2.rst). What a kernel does not count is left out.

use task::wire::Writer;

use crate::cgroup::Cgroup;

/// The fields of `memory.stat`, in the order of their numbers from 1 on.
const MEMORY: [&str; 31] = [
    "anon",
    "file",
    "kernel_stack",
    "slab",
    "sock",
    "shmem",
    "file_mapped",
    "file_dirty",
    "file_writeback",
    "anon_thp",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
    "slab_reclaimable",
    "slab_unreclaimable",
    "pgfault",
    "pgmajfault",
    "workingset_refault",
    "workingset_activate",
    "workingset_nodereclaim",
    "pgrefill",
    "pgscan",
    "pgsteal",
    "pgactivate",
    "pgdeactivate",
    "pglazyfree",
    "pglazyfreed",
    "thp_fault_alloc",
    "thp_collapse_alloc",
];

/// Files with one number each, behind those fields.
const MEMORY_FILES: [(u64, &str); 6] = [
    (32, "memory.current"),
    (33, "memory.max"),
    (34, "memory.swap.current"),
    (35, "memory.swap.max"),
    (36, "memory.peak"),
    (37, "memory.swap.peak"),
];

const CPU: [&str; 6] =
    ["usage_usec", "user_usec", "system_usec", "nr_periods", "nr_throttled", "throttled_usec"];
const EVENTS: [&str; 5] = ["low", "high", "max", "oom", "oom_kill"];
const IO: [&str; 4] = ["rbytes", "wbytes", "rios", "wios"];

/// The message.
pub(super) fn metrics(cgroup: &Cgroup) -> Vec<u8> {
    let read = |file: &str| cgroup.read(file).unwrap_or_default();
    let pids = Writer::new().number(1, number(&read("pids.current"))).number(2, number(&read("pids.max")));
    let memory = flat(&read("memory.stat"), &MEMORY);
    let memory =
        MEMORY_FILES.iter().fold(memory, |memory, (field, file)| memory.number(*field, number(&read(file))));
    let io =
        read("io.stat").lines().filter_map(device).fold(Writer::new(), |io, entry| io.message(1, &entry));
    Writer::new()
        .message(1, &pids)
        .message(2, &flat(&read("cpu.stat"), &CPU))
        .message(4, &memory)
        .message(6, &io)
        .message(8, &flat(&read("memory.events"), &EVENTS))
        .finish()
}

/// A number; without limit it is the greatest.
fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        text => text.parse().unwrap_or(0),
    }
}

/// A file of lines `name value`, as a message whose fields these names are.
fn flat(text: &str, names: &[&str]) -> Writer {
    let value = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map_or(0, number)
    };
    (1..).zip(names).fold(Writer::new(), |message, (field, name)| message.number(field, value(name)))
}

/// A line of `io.stat`: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 ...`
fn device(line: &str) -> Option<Writer> {
    let (device, counts) = line.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    let count = |name: &str| {
        let found = counts.split(' ').find_map(|count| count.strip_prefix(name)?.strip_prefix('='));
        found.map_or(0, number)
    };
    let entry = Writer::new().number(1, number(major)).number(2, number(minor));
    Some((3..).zip(IO).fold(entry, |entry, (field, name)| entry.number(field, count(name))))
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::cgroups_v2::metrics::Metrics;
    use containerd_shim_protos::protobuf::Message;

    use super::*;

    #[test]
    fn the_control_group_s_files_become_containerd_s_message() {
        let directory = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            ("cpu.stat", "usage_usec 100\nuser_usec 60\nsystem_usec 40\nnr_periods 7\n"),
            ("memory.stat", "anon 4096\nfile 8192\nanon_thp 5\nthp_collapse_alloc 9\n"),
            ("memory.current", "12288\n"),
            ("memory.max", "67108864\n"),
            ("memory.events", "low 0\nhigh 0\nmax 2\noom 1\noom_kill 1\n"),
            ("io.stat", "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0\n7:1 rbytes=9\n8:0\n"),
        ] {
            std::fs::write(directory.path().join(file), text).unwrap();
        }
        let metrics = Metrics::parse_from_bytes(&metrics(&Cgroup::at(directory.path()))).unwrap();
        assert_eq!((metrics.pids.current, metrics.pids.limit), (3, u64::MAX));
        assert_eq!((metrics.cpu.usage_usec, metrics.cpu.nr_periods), (100, 7));
        let memory = &metrics.memory;
        assert_eq!((memory.anon, memory.file, memory.anon_thp), (4096, 8192, 5));
        assert_eq!((memory.thp_collapse_alloc, memory.usage, memory.usage_limit), (9, 12288, 67_108_864));
        assert_eq!((metrics.memory_events.max, metrics.memory_events.oom_kill), (2, 1));
        let io: Vec<_> = metrics.io.usage.iter().map(|e| (e.major, e.minor, e.rbytes, e.wios)).collect();
        assert_eq!(io, [(254, 0, 1, 4), (7, 1, 9, 0)]);
    }
}
