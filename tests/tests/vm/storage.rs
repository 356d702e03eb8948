//! Disks are partitioned, formatted and mounted, and what is on them is never lost.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use tempfile::NamedTempFile;
use vm_tests::{Build, Disk, Vm};

/// A disk of its own for the guest, beside the one it boots from and the one with the user-data.
fn disk(mib: u64) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    file.as_file().set_len(mib << 20).expect("a file can have holes");
    file
}

/// The extra disk is `vdc`: `vda` is the system's, `vdb` the one with the user-data.
fn config(keys: &str, script: &str) -> String {
    let script = format!("cd /proc/1/root; {script}; echo looked");
    format!(
        "#cloud-config\n{keys}\nservices:\n  look:\n    image: busybox\n    network_mode: none\n    privileged: true\n    \
         pid: host\n    command: [sh, -c, {script:?}]\n    logging: {{driver: console}}\n"
    )
}

const DATA: &str = "disk_setup:
  data: {table_type: gpt, layout: [60, [20, 82]]}
device_aliases: {data: /dev/vdc}
fs_setup:
  - {device: data, partition: 1, filesystem: ext4, label: data}
  - {device: data, partition: 2, filesystem: swap}
mounts:
  - ['LABEL=data', /srv/data, ext4, 'defaults,noatime']
  - [vdc2, none, swap]
swap: {filename: /swap.img, size: 64M}";

#[test]
fn a_blank_disk_becomes_a_file_system_that_is_kept() {
    let build = Build::standard();
    let (system, data) = (Disk::of(&build), disk(600));
    let script = "grep vdc1 proc/1/mounts; echo x >> srv/data/boots; wc -l < srv/data/boots; \
                  [ $$(stat -f -c %b srv/data) -gt 60000 ] && echo it has grown; \
                  until [ $$(grep -c . proc/swaps) = 3 ]; do sleep 1; done; cat proc/swaps";
    let boot = || {
        let builder = Vm::direct(build.clone()).on(&system).drive(data.path());
        builder.user_data(&config(DATA, script)).disk_size("3G").boot()
    };
    let mut vm = boot();
    vm.expect("holdfast: disk_setup: /dev/vdc has 2 partitions");
    vm.expect("holdfast: fs_setup: /dev/vdc1 is ext4 now");
    vm.expect("holdfast: mounts: /dev/vdc1 is on /var/srv/data");
    for line in ["look: /dev/vdc1 /var/srv/data ext4 .*noatime", "look: 1$", "look: it has grown"] {
        vm.expect(line);
    }
    vm.expect_all(&["look: /dev/vdc2", "look: /var/swap.img"]);
    vm.power_off();
    let mut vm = boot();
    vm.expect("look: 2$");
    vm.expect_all(&["look: /dev/vdc2", "look: /var/swap.img"]);
    vm.never_said("disk_setup:|fs_setup:|recovery");
    vm.power_off();
}

#[test]
fn a_disk_that_holds_anything_is_left_alone() {
    let data = disk(400);
    let mut file = File::options().read(true).write(true).open(data.path()).expect("the disk");
    file.seek(SeekFrom::Start(700 << 10)).and_then(|_| file.write_all(b"somebody's data")).expect("the disk");
    let mut vm = Vm::direct(Build::standard()).drive(data.path()).user_data(&config(DATA, "true")).boot();
    vm.expect("holdfast: config disk_setup: /dev/vdc holds data of an unknown kind and is left as it is");
    vm.expect("holdfast: config fs_setup: /dev/vdc has no partition 1");
    vm.expect("look: looked");
    vm.power_off();
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut content)).expect("the disk");
    let kept = content.iter().filter(|byte| **byte != 0).count();
    assert_eq!(kept, b"somebody's data".len(), "something else was written");
}

#[test]
fn the_disk_that_the_system_runs_from_is_never_written() {
    let keys = "disk_setup: {/dev/vda: {table_type: gpt, layout: true, overwrite: true}}";
    let mut vm = Vm::direct(Build::standard()).user_data(&config(keys, "true")).boot();
    vm.expect("holdfast: config disk_setup: cannot get hold of /dev/vda: .*busy");
    vm.expect("look: looked");
    vm.power_off();
}
