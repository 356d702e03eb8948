//! Cgroup v2 denies devices by a BPF program that is attached to a cgroup (linux/bpf.h).
//!
//! The kernel follows each way through such a program before it takes it, and hardens each constant, so the program is short:
//! a device that may be used in every way is one comparison.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Groups below may have programs of their own, which deny more.
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;

/// Making a device node (`BPF_DEVCG_ACC_MKNOD`).
pub const MAKE: u32 = 1;
/// Reading (`BPF_DEVCG_ACC_READ`).
pub const READ: u32 = 2;
/// Writing (`BPF_DEVCG_ACC_WRITE`).
pub const WRITE: u32 = 4;

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Block,
    Character,
}

/// Devices that may be used. Making nodes is allowed for all devices: it takes a capability, and using them is another matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    pub kind: Kind,
    /// Its numbers; none stands for all.
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// Of [`READ`] and [`WRITE`].
    pub access: u32,
}

/// Denies what runs in `cgroup`, an open directory of cgroup v2, all devices but those of `allowed`.
pub fn attach(cgroup: &File, allowed: &[Allowed]) -> io::Result<()> {
    let program = program(allowed).ok_or(io::ErrorKind::InvalidInput)?;
    let load = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        instructions: u32::try_from(program.len()).map_err(io::Error::other)?,
        program: program.as_ptr().expose_provenance() as u64,
        license: c"GPL".as_ptr().expose_provenance() as u64,
    };
    // SAFETY: laid out as union bpf_attr begins for this command; it points to that many instructions and to a C string.
    let program = unsafe { bpf(BPF_PROG_LOAD, &load) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let number = |fd: RawFd| u32::try_from(fd).map_err(io::Error::other);
    let attach = Attach {
        target: number(cgroup.as_raw_fd())?,
        program: number(program.as_raw_fd())?,
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: laid out as union bpf_attr begins for this command, which takes no pointers.
    unsafe { bpf(BPF_PROG_ATTACH, &attach) }?;
    Ok(())
}

/// `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// The target in the lower half, the source in the upper one.
    registers: u8,
    offset: i16,
    value: i32,
}

/// The first fields of `union bpf_attr` for BPF_PROG_LOAD; the kernel takes what is missing for zero.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    program: u64,
    license: u64,
}

/// Those for BPF_PROG_ATTACH.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

// Opcodes of Documentation/bpf/standardization/instruction-set.rst; all on 32 bits.
/// `dst = *(u32 *)(src + offset)`.
const LOAD: u8 = 0x61;
/// `dst = src`.
const MOVE: u8 = 0xbc;
/// `dst = value`.
const SET: u8 = 0xb4;
/// `dst &= value`.
const AND: u8 = 0x54;
/// `dst |= src`.
const OR: u8 = 0x4c;
/// `dst <<= value`.
const LEFT: u8 = 0x64;
/// `dst >>= value`.
const RIGHT: u8 = 0x74;
/// To `offset` when `dst == value`.
const IF_EQUAL: u8 = 0x16;
/// To `offset` when `dst != value`.
const IF_NOT_EQUAL: u8 = 0x56;
/// Ends with the answer in r0.
const EXIT: u8 = 0x95;

/// What the program keeps where. The kernel passes `struct bpf_cgroup_dev_ctx` in r1: kind and access in one number, major,
/// minor.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// Both numbers as the kernel packs them: the minor one has 20 bits.
const BOTH: u8 = 6;
const SCRATCH: u8 = 7;

const MINOR_BITS: u32 = 20;

/// The program, or none when it is longer than its jumps reach.
fn program(allowed: &[Allowed]) -> Option<Vec<Instruction>> {
    let mut code = vec![
        op(LOAD, ACCESS, CONTEXT, 0),
        op(MOVE, KIND, ACCESS, 0),
        number(AND, KIND, 0xffff),
        number(RIGHT, ACCESS, 16),
    ];
    // Where jumps to "yes" stand: they get their length at the end.
    let mut yes = vec![code.len()];
    code.push(number(IF_EQUAL, ACCESS, MAKE));
    code.extend([
        op(LOAD, MAJOR, CONTEXT, 4),
        op(LOAD, MINOR, CONTEXT, 8),
        op(MOVE, BOTH, MAJOR, 0),
        number(LEFT, BOTH, MINOR_BITS),
        op(OR, BOTH, MINOR, 0),
    ]);
    for (kind, id) in [(Kind::Block, 1), (Kind::Character, 2)] {
        let skip = code.len();
        code.push(number(IF_NOT_EQUAL, KIND, id));
        for devices in allowed.iter().filter(|devices| devices.kind == kind) {
            add(devices, &mut code, &mut yes)?;
        }
        code[skip].offset = jump(skip, code.len())?;
    }
    code.extend([number(SET, ANSWER, 0), op(EXIT, 0, 0, 0)]);
    for from in yes {
        code[from].offset = jump(from, code.len())?;
    }
    code.extend([number(SET, ANSWER, 1), op(EXIT, 0, 0, 0)]);
    Some(code)
}

/// Adds the comparisons of one rule, for devices of its kind.
fn add(devices: &Allowed, code: &mut Vec<Instruction>, yes: &mut Vec<usize>) -> Option<()> {
    let (register, wanted) = match (devices.major, devices.minor) {
        (Some(major), Some(minor)) if minor >> MINOR_BITS == 0 => {
            (BOTH, Some(major.checked_mul(1 << MINOR_BITS)? | minor))
        }
        (Some(major), None) => (MAJOR, Some(major)),
        (None, Some(minor)) => (MINOR, Some(minor)),
        (None, None) => (KIND, None),
        (Some(_), Some(_)) => return None,
    };
    if devices.access == READ | WRITE {
        yes.push(code.len());
        code.push(match wanted {
            Some(wanted) => number(IF_EQUAL, register, wanted),
            None => number(IF_NOT_EQUAL, KIND, 0),
        });
        return Some(());
    }
    let skip = wanted.map(|wanted| {
        code.push(number(IF_NOT_EQUAL, register, wanted));
        code.len() - 1
    });
    code.extend([op(MOVE, SCRATCH, ACCESS, 0), number(AND, SCRATCH, !(devices.access | MAKE))]);
    yes.push(code.len());
    code.push(number(IF_EQUAL, SCRATCH, 0));
    if let Some(skip) = skip {
        code[skip].offset = jump(skip, code.len())?;
    }
    Some(())
}

/// The length of a jump counts from the instruction behind it.
fn jump(from: usize, to: usize) -> Option<i16> {
    i16::try_from(to - from - 1).ok()
}

fn op(code: u8, target: u8, source: u8, offset: i16) -> Instruction {
    Instruction { code, registers: source << 4 | target, offset, value: 0 }
}

fn number(code: u8, target: u8, value: u32) -> Instruction {
    Instruction { code, registers: target, offset: 0, value: value.cast_signed() }
}

/// # Safety
/// `attributes` must be laid out as the kernel wants it for `command`, and its pointers must be valid for it.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: by the caller's promise.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program answers: the kernel's machine as far as programs use it.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> u32 {
        let context = [access << 16 | kind, major, minor];
        let (mut registers, mut next) = ([0_u32; 11], 0);
        loop {
            let Instruction { code, registers: used, offset, value } = program[next];
            let (target, source) = (usize::from(used & 15), usize::from(used >> 4));
            let value = value.cast_unsigned();
            next += 1;
            let jumps = match code {
                IF_EQUAL => registers[target] == value,
                IF_NOT_EQUAL => registers[target] != value,
                EXIT => return registers[0],
                _ => false,
            };
            match code {
                LOAD => registers[target] = context[usize::try_from(offset).unwrap() / 4],
                MOVE => registers[target] = registers[source],
                SET => registers[target] = value,
                AND => registers[target] &= value,
                OR => registers[target] |= registers[source],
                LEFT => registers[target] <<= value,
                RIGHT => registers[target] >>= value,
                _ if jumps => next += usize::try_from(offset).unwrap(),
                IF_EQUAL | IF_NOT_EQUAL => {}
                code => panic!("{code:#x}"),
            }
        }
    }

    #[test]
    fn what_is_allowed_is_allowed_and_nothing_else() {
        use Kind::{Block, Character};
        let all = READ | WRITE;
        let device =
            |kind, major, minor, access| Allowed { kind, major: Some(major), minor: Some(minor), access };
        let rules = [
            device(Character, 1, 3, all),
            device(Block, 8, 16, READ),
            device(Character, 10, 200, WRITE),
            Allowed { kind: Character, major: Some(136), minor: None, access: all },
            Allowed { kind: Block, major: Some(252), minor: None, access: READ },
            Allowed { kind: Block, major: None, minor: Some(77), access: all },
        ];
        let some = program(&rules).unwrap();
        let (block, character) = (1, 2);
        for (kind, access, major, minor, wanted) in [
            (character, READ, 1, 3, 1),
            (character, all, 1, 3, 1),
            (character, READ, 1, 5, 0),
            (character, READ, 5, 3, 0),
            (block, READ, 1, 3, 0),
            (block, READ, 8, 16, 1),
            (block, WRITE, 8, 16, 0),
            (block, all, 8, 16, 0),
            (block, READ | MAKE, 8, 16, 1),
            (block, READ, 8, 17, 0),
            (character, WRITE, 10, 200, 1),
            (character, READ, 10, 200, 0),
            (character, all, 136, 7, 1),
            (character, all, 137, 7, 0),
            (block, READ, 252, 1, 1),
            (block, WRITE, 252, 1, 0),
            (block, WRITE, 9, 77, 1),
            (character, WRITE, 9, 77, 0),
            (block, MAKE, 8, 99, 1),
            (character, MAKE, 10, 1, 1),
        ] {
            let found = run(&some, kind, access, major, minor);
            assert_eq!(found, wanted, "{kind} {access} {major}:{minor}");
        }
        let none = program(&[]).unwrap();
        assert_eq!(run(&none, character, READ, 1, 3), 0);
        assert_eq!(run(&none, character, MAKE, 1, 3), 1);
        let blocks = program(&[Allowed { kind: Block, major: None, minor: None, access: all }]).unwrap();
        assert_eq!(run(&blocks, block, all, 8, 1), 1);
        assert_eq!(run(&blocks, character, READ, 8, 1), 0);
        let read = program(&[Allowed { kind: Block, major: None, minor: None, access: READ }]).unwrap();
        assert_eq!((run(&read, block, READ, 8, 1), run(&read, block, WRITE, 8, 1)), (1, 0));
    }

    #[test]
    fn what_the_kernel_has_no_number_for_is_refused() {
        let device = |major, minor| [Allowed { kind: Kind::Block, major: Some(major), minor, access: READ }];
        assert!(program(&device(8, Some(1 << 20))).is_none());
        assert!(program(&device(1 << 12, Some(0))).is_none());
        assert!(program(&device(8, Some(1)).repeat(20_000)).is_none());
    }
}
