//! System calls that no safe library offers, wrapped so that the rest of the workspace needs no `unsafe`.
//!
//! Beside the shim this is the only crate with `unsafe`; each module is one corner of the kernel's interface, and
//! every block says why it is sound. Nothing here decides anything: no retries, no policy, no logging.

#![expect(unsafe_code, reason = "this crate is where the workspace keeps it")]

pub mod backdoor;
pub mod block;
pub mod clock;
pub mod console;
pub mod device_filter;
pub mod dm;
pub mod ext4;
pub mod fsverity;
pub mod id_map;
pub mod inherited;
mod ioctl;
pub mod kmsg;
pub mod loop_device;
pub mod module;
pub mod net;
pub mod packet;
pub mod process;
pub mod quota;
pub mod random;
pub mod seccomp;
pub mod signals;
pub mod swap;
pub mod tsc;
pub mod verity_digest;
pub mod watchdog;
