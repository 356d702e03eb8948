//! Loading a filter on system calls (seccomp(2)).

use std::io;

/// An instruction of classic BPF: a `struct sock_filter` of linux/filter.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to leave out when a comparison is true.
    pub if_true: u8,
    /// And when it is not.
    pub if_false: u8,
    /// The constant.
    pub value: u32,
}

impl Instruction {
    /// How many bytes one takes.
    pub const SIZE: usize = size_of::<Self>();

    /// As it lies in memory.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let ([a, b], [c, d, e, f]) = (self.code.to_ne_bytes(), self.value.to_ne_bytes());
        [a, b, self.if_true, self.if_false, c, d, e, f]
    }

    /// The one of [`Self::to_bytes`].
    pub fn from_bytes([a, b, if_true, if_false, c, d, e, f]: [u8; Self::SIZE]) -> Self {
        Self { code: u16::from_ne_bytes([a, b]), if_true, if_false, value: u32::from_ne_bytes([c, d, e, f]) }
    }
}

/// Puts a program over all further system calls of this thread and its children. It takes the bit against new privileges,
/// or `CAP_SYS_ADMIN` in the thread's user namespace.
pub fn load(program: &[Instruction], flags: u32) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let filter = program.as_ptr().cast::<libc::sock_filter>().cast_mut();
    let header = libc::sock_fprog { len, filter };
    // SAFETY: the header points to as many instructions, laid out as the kernel's, as it says; the kernel only reads them.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const header) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
