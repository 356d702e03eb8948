//! What a container reads: the terminal of one with `tty: true`, which libcontainer makes in the container and whose master
//! it sends through a socket; the pipe of one with `stdin_open: true`; nothing.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use plan::ShimConfig;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::pipe::{PipeFlags, pipe_with};

/// Where the master is expected.
#[derive(Debug)]
pub(crate) struct ConsoleSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl ConsoleSocket {
    /// In the shim's own `directory`.
    pub(crate) fn listen(directory: &Path) -> io::Result<Self> {
        let path = directory.join("console.sock");
        Ok(Self { listener: UnixListener::bind(&path)?, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The master, which was sent before the container's program was started. Reading and writing it does not wait.
    pub(crate) fn receive(&self) -> io::Result<File> {
        // Without a container that has sent it nobody has connected, and waiting would be for ever.
        self.listener.set_nonblocking(true)?;
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        // Its name comes along.
        let mut name = [0; 256];
        recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        let mut files = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        let master = File::from(files.next().ok_or(io::ErrorKind::NotFound)?);
        fcntl_setfl(&master, OFlags::NONBLOCK)?;
        Ok(master)
    }
}

/// What a container without a terminal reads, and what is written to for that when its input stays open.
pub(crate) fn input(config: &ShimConfig) -> io::Result<(File, Option<File>)> {
    if !config.stdin_open || config.terminal {
        return Ok((File::open("/dev/null")?, None));
    }
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setfl(&writer, OFlags::NONBLOCK)?;
    Ok((reader.into(), Some(writer.into())))
}
