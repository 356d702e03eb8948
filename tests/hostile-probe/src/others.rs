//! The network, other processes, and what the node's own programs listen to.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::kernel::in_child;
use crate::{Tried, at, call};

pub(crate) fn packet_socket() -> Tried {
    call(libc::SYS_socket, [17, 3, 0, 0, 0], &[])
}

pub(crate) fn raw_socket() -> Tried {
    call(libc::SYS_socket, [2, 3, 1, 0, 0], &[])
}

/// Sets the flags of the loopback device to what they are.
pub(crate) fn change_link() -> Tried {
    const SIOCGIFFLAGS: usize = 0x8913;
    const SIOCSIFFLAGS: usize = 0x8914;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let fd = usize::try_from(socket.as_raw_fd()).map_err(io::Error::other)?;
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    call(libc::SYS_ioctl, [fd, SIOCGIFFLAGS, request.as_mut_ptr().addr(), 0, 0], &[])?;
    call(libc::SYS_ioctl, [fd, SIOCSIFFLAGS, request.as_mut_ptr().addr(), 0, 0], &[])
}

/// The other processes that `/proc` shows.
fn processes() -> io::Result<Vec<usize>> {
    let own = std::process::id();
    let mut all: Vec<usize> = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let process = name.to_str().and_then(|name| name.parse::<u32>().ok());
        all.extend(process.filter(|process| *process != own).map(|process| process as usize));
    }
    Ok(all)
}

/// Those of them that are not a health check of this container.
fn others() -> io::Result<Vec<usize>> {
    let is_check = |process: &usize| {
        let comm = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        comm.is_empty() || ["probe", "containerd-shim"].iter().any(|name| comm.starts_with(name))
    };
    Ok(processes()?.into_iter().filter(|process| !is_check(process)).collect())
}

pub(crate) fn other_processes() -> Tried {
    // A signal that is none: only whether it could be sent.
    let signal = |process: &usize| call(libc::SYS_kill, [*process, 0, 0, 0, 0], &[]).is_ok();
    if others()?.iter().any(signal) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
}

pub(crate) fn trace_others() -> Tried {
    const PTRACE_SEIZE: usize = 0x4206;
    let mut refused = io::Error::from_raw_os_error(libc::ESRCH);
    // Kernel threads come first, and are nobody's to trace.
    for process in others()?.into_iter().rev() {
        match in_child(|| call(libc::SYS_ptrace, [PTRACE_SEIZE, process, 0, 0, 0], &[])) {
            Ok(()) => return Ok(()),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// The sockets of PID 1 and of the agent.
pub(crate) fn node_sockets() -> Tried {
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    for root in ["/", "/proc/1/root"] {
        let path = Path::new(root).join("run/holdfast/notify.sock");
        match UnixDatagram::unbound()?.connect(path) {
            Ok(()) => return Ok(()),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Typing on a terminal that is another session's.
pub(crate) fn terminal_input() -> Tried {
    const TIOCSPTLCK: usize = 0x4004_5431;
    const TIOCGPTPEER: usize = 0x5441;
    const TIOCSTI: usize = 0x5412;
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/ptmx")?;
    let fd = usize::try_from(terminal.as_raw_fd()).map_err(io::Error::other)?;
    let unlocked = 0_i32;
    call(libc::SYS_ioctl, [fd, TIOCSPTLCK, at(&unlocked), 0, 0], &[])?;
    // SAFETY: it takes flags, and gives a descriptor.
    let other = unsafe { libc::ioctl(terminal.as_raw_fd(), TIOCGPTPEER as _, libc::O_RDWR | libc::O_NOCTTY) };
    let other = usize::try_from(other).map_err(|_| io::Error::last_os_error())?;
    call(libc::SYS_ioctl, [other, TIOCSTI, at(b"x"), 0, 0], &[])
}

/// The program that enters the container for a health check must not be written by it while it does.
pub(crate) fn engine_program() -> Tried {
    let end = Instant::now() + Duration::from_secs(4);
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    while Instant::now() < end {
        for process in processes()? {
            match OpenOptions::new().write(true).open(format!("/proc/{process}/exe")) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => refused = error,
            }
        }
    }
    Err(refused)
}
