//! Filters on system calls: from what the runtime-spec says (`linux.seccomp`) to a program for the kernel.
//!
//! The kernel hardens each constant of such a program, at a cost that grows with the square of its length, and runs it for
//! each system call that there is when it is loaded. So the program searches among *ranges* of numbers with the same answer
//! instead of asking for one number after the other: a profile of 350 calls takes a tenth of the instructions.
//!
//! What is decided here:
//! - Of several rules for one call the first that applies counts; when none does, the default action.
//! - Conditions of one rule must all be true.
//! - A name that x86_64 does not have is no error: profiles name the calls of all architectures and kernels.
//! - Other architectures' calls (32-bit programs, x32) end the process: whatever `architectures` says, there is a program
//!   for x86_64 alone.

mod assemble;
mod profile;
mod program;
mod rules;

#[cfg(test)]
mod tests;

use std::io;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};
use sys::seccomp::Instruction;

pub use crate::profile::{ProfileError, resolve};

/// `SECCOMP_FILTER_FLAG_LOG` of linux/seccomp.h.
const FLAG_LOG: u32 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`.
const FLAG_SPEC_ALLOW: u32 = 1 << 2;

/// The kernel's limit (`BPF_MAXINSNS` of linux/bpf_common.h).
const MAX_INSTRUCTIONS: usize = 4096;

/// A profile that is no filter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the action {0} takes a program that answers, and there is none")]
    Action(String),
    #[error("{errno} is no error number for {name}")]
    Errno { name: String, errno: u32 },
    #[error("a condition for {name} is about argument {index}: they are numbered from 0 to 5")]
    Argument { name: String, index: usize },
    #[error("the filter is too long for the kernel: {0} instructions, {MAX_INSTRUCTIONS} are possible")]
    TooLong(usize),
}

/// What the kernel is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Over `struct seccomp_data`.
    program: Vec<Instruction>,
    /// Of seccomp(2).
    flags: u32,
}

impl Filter {
    /// The filter that `profile` describes.
    pub fn new(profile: &LinuxSeccomp) -> Result<Self, Error> {
        let program = assemble::assemble(&rules::Rules::new(profile)?);
        if program.len() > MAX_INSTRUCTIONS {
            return Err(Error::TooLong(program.len()));
        }
        let flags = profile.flags().iter().flatten().fold(0, |flags, flag| {
            flags
                | match flag {
                    LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
                    LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
                    // There is one thread when it is loaded, and nobody who is notified.
                    LinuxSeccompFilterFlag::SeccompFilterFlagTsync
                    | LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
                }
        });
        Ok(Self { program, flags })
    }

    /// For a file that [`Self::from_bytes`] reads: the flags, then the program as the kernel is given it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let program = self.program.iter().flat_map(|instruction| instruction.to_bytes());
        self.flags.to_ne_bytes().into_iter().chain(program).collect()
    }

    /// The filter of [`Self::to_bytes`]; none when it is not whole.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (flags, program) = bytes.split_first_chunk()?;
        let (program, []) = program.as_chunks() else { return None };
        let program = program.iter().copied().map(Instruction::from_bytes).collect();
        Some(Self { program, flags: u32::from_ne_bytes(*flags) })
    }

    /// Puts it over all further system calls of this thread and its children; see [`sys::seccomp::load`].
    pub fn load(&self) -> io::Result<()> {
        sys::seccomp::load(&self.program, self.flags)
    }
}
