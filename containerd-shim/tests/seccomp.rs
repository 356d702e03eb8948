//! The default seccomp profile as the kernel has it: what it lets through, and how it refuses the rest.

#![expect(
    unsafe_code,
    reason = "the filter is tried out by raw system calls, in a child that it cannot leave"
)]

use libc::{c_long, syscall};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use oci_spec::runtime::LinuxSeccomp;

const PROFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../rootfs/seccomp.json");

/// A call and the error it must end with; 0 for none.
struct Case {
    name: &'static str,
    call: fn() -> c_long,
    errno: i32,
}

const CASES: [Case; 14] = [
    Case { name: "a new process", call: || clone(0), errno: 0 },
    Case { name: "clone with a user namespace", call: || clone(libc::CLONE_NEWUSER), errno: libc::EPERM },
    Case { name: "clone with a mount namespace", call: || clone(libc::CLONE_NEWNS), errno: libc::EPERM },
    Case { name: "clone3", call: || call(libc::SYS_clone3, 0), errno: libc::ENOSYS },
    Case {
        name: "unshare",
        call: || call(libc::SYS_unshare, c_long::from(libc::CLONE_NEWUSER)),
        errno: libc::EPERM,
    },
    Case { name: "mount", call: || call(libc::SYS_mount, 0), errno: libc::EPERM },
    Case { name: "bpf", call: || call(libc::SYS_bpf, 0), errno: libc::EPERM },
    Case { name: "keyctl", call: || call(libc::SYS_keyctl, 0), errno: libc::EPERM },
    Case { name: "a system call that is not known", call: || call(9999, 0), errno: libc::ENOSYS },
    Case { name: "personality of Linux", call: || call(libc::SYS_personality, 0), errno: 0 },
    Case {
        name: "personality without ASLR",
        call: || call(libc::SYS_personality, 0x40000),
        errno: libc::ENOSYS,
    },
    Case {
        name: "a socket of the kernel's crypto",
        call: || socket(libc::AF_ALG),
        errno: libc::EAFNOSUPPORT,
    },
    Case { name: "a vsock socket", call: || socket(libc::AF_VSOCK), errno: libc::EAFNOSUPPORT },
    Case { name: "a unix socket", call: || socket(libc::AF_UNIX), errno: 0 },
];

fn call(number: c_long, argument: c_long) -> c_long {
    // SAFETY: the calls above take numbers, or fail before they read what an address of 0 points to.
    unsafe { syscall(number, argument, 0, 0, 0, 0) }
}

fn socket(family: i32) -> c_long {
    // SAFETY: takes numbers only.
    unsafe { syscall(libc::SYS_socket, family, libc::SOCK_STREAM, 0) }
}

fn clone(flags: i32) -> c_long {
    // SAFETY: as fork: without CLONE_VM the new process shares nothing, and it ends at once.
    unsafe {
        let pid = syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0);
        if pid == 0 {
            libc::_exit(0);
        }
        pid
    }
}

/// The number of the first case that ends otherwise, counted from 1; 0 when none does.
fn first_wrong() -> i32 {
    for (number, case) in (1..).zip(&CASES) {
        let returned = (case.call)();
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        let ended = if returned < 0 { errno } else { 0 };
        if ended != case.errno {
            return number;
        }
    }
    0
}

#[test]
fn the_default_profile_refuses_what_reaches_beyond_a_container() {
    let text = std::fs::read(PROFILE).unwrap();
    let profile: LinuxSeccomp = serde_json::from_slice(&text).unwrap();
    let filter = seccomp::Filter::new(&profile).unwrap();
    // SAFETY: the child allocates, which glibc prepares a fork for, and takes no lock that another thread may hold.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let loaded = nix::sys::prctl::set_no_new_privs().is_ok() && filter.load().is_ok();
            // SAFETY: ends the child without running what the test harness registered.
            unsafe { libc::_exit(if loaded { first_wrong() } else { 255 }) }
        }
        ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
            WaitStatus::Exited(_, 0) => {}
            WaitStatus::Exited(_, 255) => panic!("the profile cannot be loaded"),
            WaitStatus::Exited(_, number) => panic!("{}", CASES[usize::try_from(number).unwrap() - 1].name),
            other => panic!("{other:?}"),
        },
    }
}
