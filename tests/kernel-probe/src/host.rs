//! What processes, control groups and the machine itself are asked for.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};

use crate::{Checked, expect_paths, expect_words, text};

pub(crate) fn namespaces() -> Checked {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let paths = kinds.map(|kind| format!("/proc/self/ns/{kind}"));
    expect_paths(&paths.each_ref().map(String::as_str))
}

pub(crate) fn seccomp() -> Checked {
    let actions = text("/proc/sys/kernel/seccomp/actions_avail")?;
    expect_words(&actions, &["kill_process", "errno", "user_notif", "log", "allow"])
}

/// What is in a cgroup that denies devices can open none, not even the null device.
pub(crate) fn device_is_denied() -> Checked {
    let folder = Path::new("/sys/fs/cgroup/kernel-probe");
    fs::create_dir_all(folder)?;
    sys::device_filter::attach(&File::open(folder)?, &[])?;
    let status = Command::new("/proc/self/exe").arg("open-device").arg(folder).status()?;
    if status.success() { Ok(()) } else { Err(format!("{status}").into()) }
}

/// In a process of its own: goes into the cgroup and tries to open a device.
pub(crate) fn open_device(cgroup: &Path) -> Checked {
    fs::write(cgroup.join("cgroup.procs"), "0")?;
    match File::open("/dev/null") {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(format!("opening a device fails otherwise: {error}").into()),
        Ok(_) => Err("a device was opened".into()),
    }
}

pub(crate) fn cgroup_controllers() -> Checked {
    let controllers = text("/sys/fs/cgroup/cgroup.controllers")?;
    expect_words(&controllers, &["cpuset", "cpu", "io", "memory", "hugetlb", "pids"])
}

pub(crate) fn pressure() -> Checked {
    expect_words(&text("/proc/pressure/memory")?, &["some", "full"])?;
    expect_paths(&[
        "/proc/pressure/cpu",
        "/proc/pressure/io",
        "/sys/fs/cgroup/services.slice/memory.pressure",
    ])
}

pub(crate) fn security_modules() -> Checked {
    let folder = "/sys/kernel/security";
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Mounted already: it is all the same.
    mount("securityfs", folder, "securityfs", quiet, None).ok();
    expect_words(&text("/sys/kernel/security/lsm")?, &["capability", "landlock", "lockdown", "yama"])?;
    expect_paths(&["/sys/kernel/security/lockdown"])
}

pub(crate) fn unprivileged_bpf_off() -> Checked {
    match text("/proc/sys/kernel/unprivileged_bpf_disabled")?.trim() {
        "0" => Err("it is on".into()),
        _ => Ok(()),
    }
}

/// dm-verity hashes whatever is read: with the processor's vector instructions in half the time, with its own ones for
/// SHA in a quarter.
pub(crate) fn fast_sha256() -> Checked {
    let processor = text("/proc/cpuinfo")?;
    let has =
        |flag: &str| processor.lines().any(|l| l.starts_with("flags") && l.split(' ').any(|f| f == flag));
    let driver = match (has("sha_ni"), has("avx2"), has("ssse3")) {
        (true, ..) => "sha256-ni",
        (_, true, _) => "sha256-avx2",
        (_, _, true) => "sha256-ssse3",
        _ => "sha256-generic",
    };
    expect_words(&text("/proc/crypto")?, &[driver])
}

pub(crate) fn watchdog() -> Checked {
    expect_paths(&["/dev/watchdog0", "/sys/class/watchdog/watchdog0"])
}

/// A clock that counts as right is written to the hardware clock.
pub(crate) fn clock() -> Checked {
    const DAY: i64 = 86_400;
    let hardware = || -> Result<i64, Box<dyn std::error::Error>> {
        Ok(text("/sys/class/rtc/rtc0/since_epoch")?.trim().parse()?)
    };
    expect_paths(&["/dev/rtc0"])?;
    let before = hardware()?;
    sys::clock::step(DAY * 1_000_000_000)?;
    let right = sys::clock::Lead {
        offset: 0,
        time_constant: 6,
        error: Duration::from_millis(1),
        leap: sys::clock::Leap::None,
    };
    sys::clock::lead(&right)?;
    let end = Instant::now() + Duration::from_secs(10);
    while hardware()? < before + DAY {
        if Instant::now() > end {
            return Err("the hardware clock is not written".into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

pub(crate) fn power_button() -> Checked {
    for entry in fs::read_dir("/sys/class/input")? {
        let name = fs::read_to_string(entry?.path().join("device/name")).unwrap_or_default();
        if name.trim() == "Power Button" {
            return Ok(());
        }
    }
    Err("no input device is a power button".into())
}

pub(crate) fn tpm() -> Checked {
    expect_paths(&["/sys/bus/acpi/drivers/tpm_crb", "/sys/bus/pnp/drivers/tpm_tis"])
}

pub(crate) fn file_systems() -> Checked {
    let known = text("/proc/filesystems")?;
    let wanted = ["cgroup2", "efivarfs", "erofs", "ext4", "fuse", "iso9660", "overlay", "tmpfs", "vfat"];
    expect_words(&known, &wanted)
}

pub(crate) fn bus_drivers() -> Checked {
    expect_paths(&[
        "/sys/bus/pci/drivers/virtio-pci",
        "/sys/bus/pci/drivers/nvme",
        "/sys/bus/virtio/drivers/virtio_blk",
        "/sys/bus/virtio/drivers/virtio_net",
        "/sys/bus/virtio/drivers/virtio_console",
    ])
}
