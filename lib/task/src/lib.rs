//! containerd's task service (`containerd.task.v2.Task`) over ttrpc, as far as a shim that holds one running container has
//! it: the frames, the messages, and a client that blocks.
//!
//! It is written by hand because a shim has one thread, a small memory and some fifteen small messages: see
//! `docs/decisions/task-api.md`. What is here does no I/O but in [`Client`].

mod client;
pub mod frame;
mod messages;
pub mod wire;

pub use client::{CallError, Client};
pub use messages::{Call, ExecRequest, Exit, Process, Running, State, Status, read_pids, write_pids};

/// The service's name in a request. A shim answers to newer versions of it, too: the messages are the same.
pub const SERVICE: &str = "containerd.task.v2.Task";

/// The type of the process that [`ExecRequest::process`] describes, as containerd's clients write it: JSON of an OCI
/// `process`.
pub const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// The type of an [`ExecRequest`] that asks for the container's own output and input instead of a process: ours, as
/// containerd has no word for it.
pub const ATTACH_TYPE: &str = "holdfast.attach";

/// The type of what `Stats` answers with.
pub const METRICS_TYPE: &str = "io.containerd.cgroups.v2.Metrics";

/// Codes of an error, which are gRPC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request makes no sense.
    InvalidArgument,
    /// There is no such process.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// Not in this state.
    FailedPrecondition,
    /// Not here.
    Unimplemented,
    /// Something failed.
    Internal,
}

impl Code {
    /// gRPC's number.
    pub fn number(self) -> u64 {
        match self {
            Self::InvalidArgument => 3,
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::FailedPrecondition => 9,
            Self::Unimplemented => 12,
            Self::Internal => 13,
        }
    }
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The kind of reason.
    pub code: Code,
    /// The reason.
    pub message: String,
}

impl Refusal {
    /// One with this reason.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

#[cfg(test)]
mod tests;
