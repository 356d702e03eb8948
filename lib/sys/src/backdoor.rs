//! VMware's backdoor: a port of the processor behind which the hypervisor listens, here for messages only.
//!
//! The registers are those of VMware's open-vm-tools (`lib/include/backdoor_def.h`, `guest_msg_def.h`). A process that the
//! hypervisor does not hear, and that may not use the port, is ended by SIGSEGV: ask from a process that is for nothing
//! else.

use std::arch::asm;
use std::io;

const MAGIC: u32 = 0x564d_5868;
const PORT: u16 = 0x5658;
const MESSAGE: u16 = 0x1e;

/// One step in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done: the upper half of ECX.
    pub kind: u16,
    /// Which conversation it belongs to: the upper half of EDX.
    pub channel: u16,
    /// EBX.
    pub value: u32,
    /// What the hypervisor gave to prove that the channel is ours: ESI and EDI.
    pub cookies: (u32, u32),
}

/// What the hypervisor leaves in the registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The upper half of ECX.
    pub status: u16,
    /// The upper half of EDX: a channel, or what comes next.
    pub next: u16,
    /// EBX.
    pub value: u32,
    /// ESI and EDI.
    pub cookies: (u32, u32),
}

/// Lets this process use the port, where the hypervisor leaves that to the kernel. It fails where the kernel is locked
/// down; most hypervisors answer then, too.
pub fn permit() -> io::Result<()> {
    // SAFETY: changes which ports this process may use, and no memory.
    match unsafe { libc::ioperm(PORT.into(), 1, 1) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Does one step. Elsewhere than under VMware nobody answers: the status is 0 then, or the process ends.
pub fn step(step: Step) -> Answer {
    let upper = |half: u16, lower: u16| u32::from(half) << 16 | u32::from(lower);
    let (mut b, mut c) = (u64::from(step.value), upper(step.kind, MESSAGE));
    let mut d = upper(step.channel, PORT);
    let (mut si, mut di) = step.cookies;
    // SAFETY: the message commands only change registers, all of which are named here. RBX is LLVM's own, so it is
    // exchanged for the time of the instruction.
    unsafe {
        asm!(
            "xchg {b}, rbx",
            "in eax, dx",
            "xchg {b}, rbx",
            b = inout(reg) b,
            inout("eax") MAGIC => _,
            inout("ecx") c,
            inout("edx") d,
            inout("esi") si,
            inout("edi") di,
            options(nostack),
        );
    }
    let [.., b0, b1, b2, b3] = b.to_be_bytes();
    let half = |register: u32| {
        let [high, low, ..] = register.to_be_bytes();
        u16::from_be_bytes([high, low])
    };
    Answer { status: half(c), next: half(d), value: u32::from_be_bytes([b0, b1, b2, b3]), cookies: (si, di) }
}
