//! What the kernel does for those who administer it, and the parts of it that have been ways out.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use libc::{EBADF, EFAULT, EINVAL, ENOEXEC};

use crate::{Tried, at, call};

pub(crate) fn load_module() -> Tried {
    let module = [0_u8; 64];
    call(libc::SYS_init_module, [at(&module), module.len(), at(c""), 0, 0], &[ENOEXEC, EINVAL])
}

pub(crate) fn kexec() -> Tried {
    // No segments: unloads what has not been loaded.
    call(libc::SYS_kexec_load, [0, 0, 0, 0, 0], &[])
}

pub(crate) fn reboot() -> Tried {
    // Numbers that no command has.
    call(libc::SYS_reboot, [0xfee1_dead, 0x2812_1969, 0x7777_7777, 0, 0], &[EINVAL])
}

pub(crate) fn set_clock() -> Tried {
    // There is no such time.
    let time = [0_i64, -1];
    call(libc::SYS_clock_settime, [0, at(&time), 0, 0, 0], &[EINVAL])
}

pub(crate) fn set_hostname() -> Tried {
    // A name that is too long.
    call(libc::SYS_sethostname, [at(c"x"), 1000, 0, 0, 0], &[EINVAL])
}

pub(crate) fn log() -> Tried {
    let mut buffer = [0_u8; 1024];
    call(libc::SYS_syslog, [3, buffer.as_mut_ptr().addr(), buffer.len(), 0, 0], &[])
}

pub(crate) fn port_io() -> Tried {
    call(libc::SYS_ioperm, [0x80, 1, 1, 0, 0], &[])
}

pub(crate) fn bpf() -> Tried {
    // An array of one word: type, key size, value size, entries.
    let attributes = [2_u32, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    call(libc::SYS_bpf, [0, at(&attributes), size_of_val(&attributes), 0, 0], &[])
}

pub(crate) fn perf() -> Tried {
    // struct perf_event_attr: the software event of page faults, with the kernel's part.
    let mut attributes = [0_u64; 16];
    attributes[0] = 1 | 128 << 32;
    attributes[1] = 2;
    let everybody = usize::MAX;
    call(libc::SYS_perf_event_open, [at(&attributes), everybody, 0, everybody, 0], &[])
}

pub(crate) fn userfaultfd() -> Tried {
    call(libc::SYS_userfaultfd, [0, 0, 0, 0, 0], &[])
}

pub(crate) fn io_uring() -> Tried {
    let parameters = [0_u8; 120];
    call(libc::SYS_io_uring_setup, [4, at(&parameters), 0, 0, 0], &[])
}

pub(crate) fn keyring() -> Tried {
    let session = (-3_isize).cast_unsigned();
    call(libc::SYS_add_key, [at(c"user"), at(c"probe"), at(c"x"), 1, session], &[])
}

pub(crate) fn swap() -> Tried {
    call(libc::SYS_swapon, [at(c"/proc/self/status"), 0, 0, 0, 0], &[EINVAL])
}

pub(crate) fn accounting() -> Tried {
    call(libc::SYS_acct, [0, 0, 0, 0, 0], &[])
}

/// In a child, with which what it has got ends.
pub(crate) fn in_child(attempt: impl FnOnce() -> Tried) -> Tried {
    // SAFETY: the probe has one thread, so the child may do what it could do itself.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let errno = attempt().map_or_else(|error| error.raw_os_error().unwrap_or(EINVAL), |()| 0);
        // SAFETY: it ends.
        unsafe { libc::_exit(errno) };
    }
    let mut status = 0;
    // SAFETY: the child has not been waited for, and there is room for its status.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    match libc::WEXITSTATUS(status) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

pub(crate) fn new_user_namespace() -> Tried {
    let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
    in_child(|| call(libc::SYS_unshare, [flags.unsigned_abs() as usize, 0, 0, 0, 0], &[]))
}

pub(crate) fn clone_user_namespace() -> Tried {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: without a stack it is a fork, and the child ends at once.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: it ends.
        0 => unsafe { libc::_exit(0) },
        _ => Ok(()),
    }
}

/// A filter cannot see its flags, so it must not be there at all.
pub(crate) fn clone3() -> Tried {
    call(libc::SYS_clone3, [0, 0, 0, 0, 0], &[EINVAL, EFAULT])
}

pub(crate) fn join_namespace() -> Tried {
    let namespace = File::open("/proc/self/ns/ipc")?;
    let fd = usize::try_from(namespace.as_raw_fd()).map_err(io::Error::other)?;
    call(libc::SYS_setns, [fd, 0, 0, 0, 0], &[EBADF])
}

pub(crate) fn more_capabilities() -> Tried {
    // capget, then capset with all of them.
    let header = [0x2008_0522_u32, 0];
    let all = [u32::MAX, u32::MAX, 0, 0x1ff, 0x1ff, 0];
    call(libc::SYS_capset, [at(&header), at(&all), 0, 0, 0], &[])
}
