//! A process that a client adds to the container: described, started, ended, deleted.
//!
//! Its program, arguments, environment and directory are the client's; user, rights, limits and filter are the container's,
//! whatever the description says of them. Its input and output are FIFOs that the client has made and opened before it
//! starts the process, and which the process gets as they are, unless there is a terminal in between.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use nix::unistd::Pid;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde::Deserialize;
use task::{Code, ExecRequest, Exit, Process, Refusal, Status};

use super::attach::Attached;
use super::terminal::{Ends, Terminal};
use super::{failed, not_here};
use crate::exec::{Container, Program, Stdio};

/// The part of an OCI `process` that is the client's.
#[derive(Debug, Deserialize)]
struct Description {
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    #[serde(default)]
    cwd: String,
}

#[derive(Debug)]
pub(super) struct Exec {
    request: ExecRequest,
    program: Program,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Created,
    Running {
        pid: Pid,
        /// Keeps the process's input from ending before the client says so.
        input: Option<File>,
    },
    Stopped {
        pid: Pid,
        exit: Exit,
    },
}

impl Exec {
    pub(super) fn new(mut request: ExecRequest) -> Result<Self, Refusal> {
        let invalid = |message: String| Refusal::new(Code::InvalidArgument, message);
        if request.attach {
            let program = Program { args: Vec::new(), env: None, cwd: None };
            return Ok(Self { request, program, stage: Stage::Created });
        }
        let description: Description = serde_json::from_slice(&std::mem::take(&mut request.process))
            .map_err(|error| invalid(format!("the process cannot be understood: {error}")))?;
        if description.args.is_empty() {
            return Err(invalid("the process has no arguments".to_owned()));
        }
        let Description { args, env, cwd } = description;
        let program = Program {
            args,
            env: (!env.is_empty()).then_some(env),
            cwd: (!cwd.is_empty()).then(|| cwd.into()),
        };
        Ok(Self { request, program, stage: Stage::Created })
    }

    /// Starts it; gives its number, and its terminal when it has one.
    pub(super) fn start(&mut self, container: &Container) -> Result<(u32, Option<Terminal>), Refusal> {
        if !matches!(self.stage, Stage::Created) {
            return Err(not_here("it has been started already"));
        }
        let request = &self.request;
        let (stdio, input, ends) = if request.terminal {
            let (master, slave) = container.open_terminal().map_err(failed("open a terminal"))?;
            let (stdin, input) = split(open_input(&request.stdin)?);
            let ends = Ends { master, stdin, hold: input, stdout: open_output(&request.stdout)? };
            (Stdio::terminal(slave).map_err(failed("open a terminal"))?, None, Some(ends))
        } else {
            let (stdin, input) = split(open_input(&request.stdin)?);
            let stdin = stdin.map_or_else(|| null().map_err(failed("open /dev/null")), Ok)?;
            blocking(&stdin).map_err(failed("prepare its input"))?;
            let output = |path: &str| -> Result<File, Refusal> {
                let file = match open_output(path)? {
                    Some(file) => file,
                    None => null().map_err(failed("open /dev/null"))?,
                };
                blocking(&file).map_err(failed("prepare its output"))?;
                Ok(file)
            };
            let stdio =
                Stdio { files: [stdin, output(&request.stdout)?, output(&request.stderr)?], terminal: false };
            (stdio, input, None)
        };
        let pid = container.exec(&self.program, &stdio).map_err(failed("enter the container"))?;
        self.stage = Stage::Running { pid, input };
        let terminal = ends.map(|ends| Terminal::new(request.exec.clone(), ends));
        Ok((pid.as_raw().cast_unsigned(), terminal))
    }

    /// Whether it is a client that hears the container itself.
    pub(super) fn is_attached(&self) -> bool {
        self.request.attach
    }

    /// Attaches the client to the container, whose first process is `pid`.
    pub(super) fn attach(&mut self, pid: Pid) -> Result<Attached, Refusal> {
        if !matches!(self.stage, Stage::Created) {
            return Err(not_here("it has been started already"));
        }
        let request = &self.request;
        let input = split(open_input(&request.stdin)?);
        let output = [open_output(&request.stdout)?, open_output(&request.stderr)?];
        self.stage = Stage::Running { pid, input: None };
        Ok(Attached::new(request.exec.clone(), input, output))
    }

    /// Whether this is its process.
    pub(super) fn is(&self, number: i32) -> bool {
        matches!(self.stage, Stage::Running { pid, .. } if pid.as_raw() == number)
    }

    pub(super) fn ended(&mut self, exit: Exit) {
        if let Stage::Running { pid, .. } = self.stage {
            self.stage = Stage::Stopped { pid, exit };
        }
    }

    /// Its process, while it runs.
    pub(super) fn running(&self) -> Result<Pid, Refusal> {
        match self.stage {
            Stage::Running { pid, .. } => Ok(pid),
            Stage::Created => Err(not_here("it has not been started")),
            Stage::Stopped { .. } => Err(Refusal::new(Code::NotFound, "it has ended")),
        }
    }

    /// The client's input ends when the client closes it.
    pub(super) fn close_input(&mut self) {
        if let Stage::Running { input, .. } = &mut self.stage {
            *input = None;
        }
    }

    /// What is left to say when it is deleted.
    pub(super) fn leave(&self) -> Result<(u32, Exit), Refusal> {
        match self.stage {
            Stage::Created => Ok((0, Exit::default())),
            Stage::Running { .. } => Err(not_here("it still runs")),
            Stage::Stopped { pid, exit } => Ok((pid.as_raw().cast_unsigned(), exit)),
        }
    }

    pub(super) fn process(&self, id: &str) -> Process {
        let (pid, status, exit) = match self.stage {
            Stage::Created => (0, Status::Created, None),
            Stage::Running { pid, .. } => (pid.as_raw(), Status::Running, None),
            Stage::Stopped { pid, exit } => (pid.as_raw(), Status::Stopped, Some(exit)),
        };
        let terminal = self.request.terminal;
        Process { exec: id.to_owned(), pid: pid.cast_unsigned(), status, terminal, exit }
    }
}

fn null() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/null")
}

fn split<A, B>(pair: Option<(A, B)>) -> (Option<A>, Option<B>) {
    pair.map_or((None, None), |(a, b)| (Some(a), Some(b)))
}

/// Opens the client's input, and its other end, so that it does not end before the client has opened it.
fn open_input(path: &str) -> Result<Option<(File, File)>, Refusal> {
    if path.is_empty() {
        return Ok(None);
    }
    let open = |write: bool| {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        OpenOptions::new().read(!write).write(write).custom_flags(flags).open(path)
    };
    let both = open(false).and_then(|reader| Ok((reader, open(true)?)));
    both.map(Some).map_err(|error| unusable(path, &error))
}

/// Opens what the client reads.
fn open_output(path: &str) -> Result<Option<File>, Refusal> {
    if path.is_empty() {
        return Ok(None);
    }
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().append(true).custom_flags(flags).open(path);
    file.map(Some).map_err(|error| unusable(path, &error))
}

fn unusable(path: &str, error: &io::Error) -> Refusal {
    let why = match error.raw_os_error() {
        Some(number) if number == rustix::io::Errno::NXIO.raw_os_error() => "nobody reads it".to_owned(),
        _ => error.to_string(),
    };
    Refusal::new(Code::InvalidArgument, format!("cannot use {path}: {why}"))
}

/// Programs expect that reading and writing waits.
fn blocking(file: &File) -> io::Result<()> {
    Ok(fcntl_setfl(file, fcntl_getfl(file)? - OFlags::NONBLOCK)?)
}
