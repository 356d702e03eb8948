//! The messages of the task service, with the numbers that containerd's definitions give their fields.

use crate::wire::{Malformed, Value, Writer, fields};
use crate::{Code, Refusal};

/// One call. `exec` is the id of an exec, or empty for the container's first process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Makes the container.
    Create,
    /// Starts the container, or an exec that was added.
    Start { exec: String },
    /// Forgets a process that has ended.
    Delete { exec: String },
    /// What a process is.
    State { exec: String },
    /// All processes of the container.
    Pids,
    /// Freezes the container.
    Pause,
    /// Lets it go on.
    Resume,
    /// Sends a signal to a process, or to all of the container.
    Kill { exec: String, signal: u32, all: bool },
    /// Adds a process that is started with `Start`.
    Exec(ExecRequest),
    /// Tells a terminal its size.
    Resize { exec: String, width: u32, height: u32 },
    /// Nothing more will come on the process's input.
    CloseIo { exec: String },
    /// Answers when the process has ended.
    Wait { exec: String },
    /// What the container uses.
    Stats,
    /// Who is there.
    Connect,
    /// Ends the shim.
    Shutdown,
}

/// A process to be executed in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// Its id among the execs of the container.
    pub exec: String,
    /// With a terminal.
    pub terminal: bool,
    /// Path of a FIFO that it reads; empty: nothing.
    pub stdin: String,
    /// Path of a FIFO or file that it writes to; empty: nobody hears it.
    pub stdout: String,
    /// The same for its errors; not with a terminal.
    pub stderr: String,
    /// JSON of an OCI `process`.
    pub process: Vec<u8>,
    /// No process: the output and input of the container's first one.
    pub attach: bool,
}

fn malformed(_: Malformed) -> Refusal {
    Refusal::new(Code::InvalidArgument, "the request is malformed")
}

impl Call {
    /// The call of `method` with this message, and the id of the container that it is for.
    pub fn read(method: &str, payload: &[u8]) -> Result<(String, Self), Refusal> {
        let mut found = Found::default();
        found.read(method, payload).map_err(malformed)?;
        let Found { id, exec, numbers: [first, second], request } = found;
        let call = match method {
            "Create" => Self::Create,
            "Start" => Self::Start { exec },
            "Delete" => Self::Delete { exec },
            "State" => Self::State { exec },
            "Pids" => Self::Pids,
            "Pause" => Self::Pause,
            "Resume" => Self::Resume,
            "Kill" => Self::Kill { exec, signal: first, all: second != 0 },
            "Exec" => Self::Exec(ExecRequest { exec, ..request }),
            "ResizePty" => Self::Resize { exec, width: first, height: second },
            "CloseIO" => Self::CloseIo { exec },
            "Wait" => Self::Wait { exec },
            "Stats" => Self::Stats,
            "Connect" => Self::Connect,
            "Shutdown" => Self::Shutdown,
            other => {
                return Err(Refusal::new(Code::Unimplemented, format!("this shim does not know '{other}'")));
            }
        };
        Ok((id, call))
    }

    /// The method, and its message for the container `id`.
    pub fn write(&self, id: &str) -> (&'static str, Vec<u8>) {
        let base = Writer::new().text(1, id);
        let (method, message) = match self {
            Self::Create => ("Create", base),
            Self::Start { exec } => ("Start", base.text(2, exec)),
            Self::Delete { exec } => ("Delete", base.text(2, exec)),
            Self::State { exec } => ("State", base.text(2, exec)),
            Self::Pids => ("Pids", base),
            Self::Pause => ("Pause", base),
            Self::Resume => ("Resume", base),
            Self::Kill { exec, signal, all } => {
                ("Kill", base.text(2, exec).number(3, u64::from(*signal)).number(4, u64::from(*all)))
            }
            Self::Exec(request) => {
                let kind = if request.attach { crate::ATTACH_TYPE } else { crate::PROCESS_TYPE };
                let process = Writer::new().text(1, kind).bytes(2, &request.process);
                let message = base
                    .text(2, &request.exec)
                    .number(3, u64::from(request.terminal))
                    .text(4, &request.stdin)
                    .text(5, &request.stdout)
                    .text(6, &request.stderr)
                    .message(7, &process);
                ("Exec", message)
            }
            Self::Resize { exec, width, height } => {
                ("ResizePty", base.text(2, exec).number(3, u64::from(*width)).number(4, u64::from(*height)))
            }
            Self::CloseIo { exec } => ("CloseIO", base.text(2, exec).number(3, 1)),
            Self::Wait { exec } => ("Wait", base.text(2, exec)),
            Self::Stats => ("Stats", base),
            Self::Connect => ("Connect", base),
            Self::Shutdown => ("Shutdown", base),
        };
        (method, message.finish())
    }
}

/// The fields of a request, by their numbers: most messages have the same ones in the same places.
#[derive(Default)]
struct Found {
    id: String,
    exec: String,
    numbers: [u32; 2],
    request: ExecRequest,
}

impl Found {
    fn read(&mut self, method: &str, payload: &[u8]) -> Result<(), Malformed> {
        let has_numbers = matches!(method, "Kill" | "ResizePty");
        for field in fields(payload) {
            match (method, field?) {
                (_, (1, value)) => self.id = value.text()?,
                // The bundle of a container that this shim does not make.
                ("Create", _) => {}
                (_, (2, value @ Value::Bytes(_))) => self.exec = value.text()?,
                (_, (3, value)) if has_numbers => self.numbers[0] = value.small()?,
                (_, (4, value)) if has_numbers => self.numbers[1] = value.small()?,
                ("Exec", (3, value)) => self.request.terminal = value.number()? != 0,
                ("Exec", (4, value)) => self.request.stdin = value.text()?,
                ("Exec", (5, value)) => self.request.stdout = value.text()?,
                ("Exec", (6, value)) => self.request.stderr = value.text()?,
                ("Exec", (7, any)) => {
                    for field in fields(any.bytes()?) {
                        match field? {
                            (1, value) => self.request.attach = value.text()? == crate::ATTACH_TYPE,
                            (2, value) => self.request.process = value.bytes()?.to_vec(),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Nobody knows.
    #[default]
    Unknown,
    /// It is there and not started.
    Created,
    /// It runs.
    Running,
    /// It has ended.
    Stopped,
    /// It is frozen.
    Paused,
}

impl Status {
    fn number(self) -> u64 {
        match self {
            Self::Unknown => 0,
            Self::Created => 1,
            Self::Running => 2,
            Self::Stopped => 3,
            Self::Paused => 4,
        }
    }

    fn of(number: u64) -> Self {
        match number {
            1 => Self::Created,
            2 => Self::Running,
            3 => Self::Stopped,
            4 | 5 => Self::Paused,
            _ => Self::Unknown,
        }
    }
}

/// How and when a process has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Its code; 128 and the number of the signal that ended it.
    pub code: u32,
    /// When: seconds and nanoseconds since 1970.
    pub at: (u64, u32),
}

impl Exit {
    /// `WaitResponse`
    pub fn write(&self) -> Vec<u8> {
        Writer::new().number(1, u64::from(self.code)).message(2, &self.time()).finish()
    }

    /// `WaitResponse`
    pub fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let mut exit = Self::default();
        for field in fields(payload) {
            match field? {
                (1, value) => exit.code = value.small()?,
                (2, value) => exit.at = time(value)?,
                _ => {}
            }
        }
        Ok(exit)
    }

    fn time(&self) -> Writer {
        Writer::new().number(1, self.at.0).number(2, u64::from(self.at.1))
    }
}

fn time(value: Value<'_>) -> Result<(u64, u32), Malformed> {
    let mut time = (0, 0);
    for field in fields(value.bytes()?) {
        match field? {
            (1, value) => time.0 = value.number()?,
            (2, value) => time.1 = value.small()?,
            _ => {}
        }
    }
    Ok(time)
}

/// What `State` answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The container's id.
    pub id: String,
    /// Its bundle.
    pub bundle: String,
    /// The process.
    pub process: Process,
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its id among the execs; empty: the container's first process.
    pub exec: String,
    /// Its number on the node; 0 before it is started.
    pub pid: u32,
    /// What it does.
    pub status: Status,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// How it has ended.
    pub exit: Option<Exit>,
}

impl State {
    /// `StateResponse`
    pub fn write(&self) -> Vec<u8> {
        let process = &self.process;
        let mut message = Writer::new()
            .text(1, &self.id)
            .text(2, &self.bundle)
            .number(3, u64::from(process.pid))
            .number(4, process.status.number())
            .number(8, u64::from(process.terminal));
        if let Some(exit) = &process.exit {
            message = message.number(9, u64::from(exit.code)).message(10, &exit.time());
        }
        message.text(11, &process.exec).finish()
    }

    /// `StateResponse`
    pub fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let mut state = Self::default();
        let (mut code, mut at) = (0, None);
        for field in fields(payload) {
            match field? {
                (1, value) => state.id = value.text()?,
                (2, value) => state.bundle = value.text()?,
                (3, value) => state.process.pid = value.small()?,
                (4, value) => state.process.status = Status::of(value.number()?),
                (8, value) => state.process.terminal = value.number()? != 0,
                (9, value) => code = value.small()?,
                (10, value) => at = Some(time(value)?),
                (11, value) => state.process.exec = value.text()?,
                _ => {}
            }
        }
        state.process.exit = at.map(|at| Exit { code, at });
        Ok(state)
    }
}

/// What `Connect`, `Start` and `Delete` answer, each as much of it as it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// The shim's process.
    pub shim: u32,
    /// The container's first process, or the exec.
    pub pid: u32,
}

impl Running {
    /// `ConnectResponse`
    pub fn write_connect(&self) -> Vec<u8> {
        Writer::new().number(1, u64::from(self.shim)).number(2, u64::from(self.pid)).text(3, "2").finish()
    }

    /// `ConnectResponse`
    pub fn read_connect(payload: &[u8]) -> Result<Self, Malformed> {
        let mut running = Self::default();
        for field in fields(payload) {
            match field? {
                (1, value) => running.shim = value.small()?,
                (2, value) => running.pid = value.small()?,
                _ => {}
            }
        }
        Ok(running)
    }

    /// `StartResponse`
    pub fn write_start(&self) -> Vec<u8> {
        Writer::new().number(1, u64::from(self.pid)).finish()
    }

    /// `DeleteResponse`
    pub fn write_delete(&self, exit: &Exit) -> Vec<u8> {
        Writer::new()
            .number(1, u64::from(self.pid))
            .number(2, u64::from(exit.code))
            .message(3, &exit.time())
            .finish()
    }
}

/// `PidsResponse`
pub fn write_pids(pids: &[u32]) -> Vec<u8> {
    let add = |message: Writer, pid: &u32| message.message(1, &Writer::new().number(1, u64::from(*pid)));
    pids.iter().fold(Writer::new(), add).finish()
}

/// `PidsResponse`
pub fn read_pids(payload: &[u8]) -> Result<Vec<u32>, Malformed> {
    let mut pids = Vec::new();
    for field in fields(payload) {
        let (1, value) = field? else { continue };
        for field in fields(value.bytes()?) {
            if let (1, pid) = field? {
                pids.push(pid.small()?);
            }
        }
    }
    Ok(pids)
}
