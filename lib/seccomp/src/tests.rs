//! Programs are run by a small machine of our own, and must say what the profile says.

use oci_spec::runtime::LinuxSeccomp;
use serde_json::json;
use sys::seccomp::Instruction;
use syscalls::Sysno;

use crate::{Error, Filter};

const X86_64: u32 = 0xc000_003e;
const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;

fn errno(number: u32) -> u32 {
    0x0005_0000 | number
}

/// What a system call looks like to a filter.
#[derive(Clone, Copy, Debug)]
struct Call {
    number: u32,
    architecture: u32,
    arguments: [u64; 6],
}

impl Call {
    fn new(name: &str, arguments: [u64; 6]) -> Self {
        let call: Sysno = name.parse().expect("a system call");
        Self { number: u32::try_from(call.id()).expect("a small number"), architecture: X86_64, arguments }
    }

    /// The word at an offset of `struct seccomp_data`.
    fn word(&self, offset: u32) -> u32 {
        let mut bytes = Vec::new();
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.architecture.to_le_bytes());
        bytes.extend(0x1234_5678_9abc_u64.to_le_bytes());
        for argument in self.arguments {
            bytes.extend(argument.to_le_bytes());
        }
        let offset = usize::try_from(offset).expect("an offset");
        u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
    }
}

/// Runs a program as the kernel does.
fn run(program: &[Instruction], call: &Call) -> u32 {
    let (mut at, mut word) = (0, 0);
    loop {
        let Instruction { code, if_true, if_false, value } = program[at];
        at += 1;
        let test = |holds: bool| usize::from(if holds { if_true } else { if_false });
        match code {
            0x20 => word = call.word(value),
            0x54 => word &= value,
            0x05 => at += usize::try_from(value).expect("a distance"),
            0x15 => at += test(word == value),
            0x25 => at += test(word > value),
            0x35 => at += test(word >= value),
            0x06 => return value,
            code => panic!("no instruction: {code:#x}"),
        }
    }
}

fn filter(profile: &serde_json::Value) -> Result<Filter, Error> {
    let profile: LinuxSeccomp = serde_json::from_value(profile.clone()).expect("a profile");
    Filter::new(&profile)
}

fn program(profile: &serde_json::Value) -> Vec<Instruction> {
    filter(profile).expect("a filter").program
}

#[test]
fn each_call_is_answered_as_the_default_profile_says() {
    let profile: serde_json::Value =
        serde_json::from_str(include_str!("../../../rootfs/seccomp.json")).expect("a profile");
    let program = program(&profile);
    let rules = profile["syscalls"].as_array().expect("rules");
    let mut seen = 0;
    for call in Sysno::iter() {
        let of_it = |rule: &&serde_json::Value| {
            rule["names"].as_array().expect("names").iter().any(|name| name == call.name())
        };
        let wanted = match rules.iter().find(of_it) {
            Some(rule) if rule.get("args").is_some() => continue,
            Some(rule) if rule["action"] == "SCMP_ACT_ALLOW" => ALLOW,
            Some(rule) => errno(u32::try_from(rule["errnoRet"].as_u64().expect("a number")).expect("small")),
            None => errno(38),
        };
        assert_eq!(run(&program, &Call::new(call.name(), [0; 6])), wanted, "{}", call.name());
        seen += 1;
    }
    assert!(seen > 300, "{seen} calls");
    assert!(program.len() < 200, "{} instructions", program.len());

    // New namespaces, and nothing else about clone.
    let clone = |flags| run(&program, &Call::new("clone", [flags, 0, 0, 0, 0, 0]));
    assert_eq!(clone(0x003d_0f00), ALLOW, "a thread");
    for namespace in [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        assert_eq!(clone(namespace | 17), errno(1), "{namespace:#x}");
    }
    let socket = |family| run(&program, &Call::new("socket", [family, 1, 0, 0, 0, 0]));
    assert_eq!((socket(2), socket(37)), (ALLOW, ALLOW));
    assert_eq!((socket(38), socket(40), socket(1 << 32)), (errno(97), errno(97), errno(97)));
}

#[test]
fn what_is_not_x86_64_ends_the_process() {
    let program = program(&json!({ "defaultAction": "SCMP_ACT_ALLOW" }));
    let call = Call::new("read", [0; 6]);
    assert_eq!(run(&program, &call), ALLOW);
    assert_eq!(run(&program, &Call { architecture: 0x4000_0003, ..call }), KILL);
    assert_eq!(run(&program, &Call { number: call.number | 0x4000_0000, ..call }), KILL);
    assert_eq!(run(&program, &Call { number: 0x3fff_ffff, ..call }), ALLOW);
}

#[test]
fn conditions_compare_all_64_bits() {
    let values = [0, 1, 5, 0xffff_ffff, 0x1_0000_0000, 0x5_0000_0005, u64::MAX - 1, u64::MAX];
    type Holds = fn(u64, u64) -> bool;
    let comparisons: [(&str, Holds); 6] = [
        ("SCMP_CMP_EQ", |a, b| a == b),
        ("SCMP_CMP_NE", |a, b| a != b),
        ("SCMP_CMP_LT", |a, b| a < b),
        ("SCMP_CMP_LE", |a, b| a <= b),
        ("SCMP_CMP_GT", |a, b| a > b),
        ("SCMP_CMP_GE", |a, b| a >= b),
    ];
    for (operator, holds) in comparisons {
        for value in values {
            let program = program(&json!({ "defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [{
                "names": ["read"], "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 3, "op": operator, "value": value }],
            }] }));
            for argument in values {
                let call = Call::new("read", [7, 7, 7, argument, 7, 7]);
                let wanted = if holds(argument, value) { ALLOW } else { KILL };
                assert_eq!(run(&program, &call), wanted, "{argument:#x} {operator} {value:#x}");
            }
        }
    }
}

#[test]
fn a_mask_is_the_value_and_what_it_leaves_the_second_one() {
    let program = program(&json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{
        "names": ["read"], "action": "SCMP_ACT_ALLOW",
        "args": [{ "index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 0xf_0000_00f0_u64, "valueTwo": 0x1_0000_0030_u64 }],
    }] }));
    let answer = |argument| run(&program, &Call::new("read", [argument, 0, 0, 0, 0, 0]));
    assert_eq!(answer(0x1_0000_0030), ALLOW);
    assert_eq!(answer(0xffff_fff1_ffff_ff3f), ALLOW);
    assert_eq!(answer(0x1_0000_0031 ^ 0x1), ALLOW);
    assert_eq!((answer(0x30), answer(0x1_0000_0070)), (errno(1), errno(1)));
}

#[test]
fn the_first_rule_that_applies_counts_and_all_its_conditions() {
    let equal = |index: u32, value: u64| json!({ "index": index, "op": "SCMP_CMP_EQ", "value": value });
    let program = program(&json!({ "defaultAction": "SCMP_ACT_TRAP", "syscalls": [
        { "names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7, "args": [equal(0, 1), equal(1, 2)] },
        { "names": ["read"], "action": "SCMP_ACT_LOG", "args": [equal(0, 1)] },
        { "names": ["write"], "action": "SCMP_ACT_ALLOW", "args": [equal(0, 1)] },
        { "names": ["write"], "action": "SCMP_ACT_KILL" },
        { "names": ["write"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["of_another_kernel"], "action": "SCMP_ACT_ALLOW" },
    ] }));
    let answer = |name: &str, a, b| run(&program, &Call::new(name, [a, b, 0, 0, 0, 0]));
    assert_eq!(answer("read", 1, 2), errno(7));
    assert_eq!(answer("read", 1, 3), 0x7ffc_0000);
    assert_eq!(answer("read", 2, 2), 0x0003_0000);
    assert_eq!((answer("write", 1, 0), answer("write", 2, 0)), (ALLOW, 0));
}

#[test]
fn a_long_way_takes_a_jump_of_its_own() {
    // Every second call with conditions of its own: no ranges, and more than 255 instructions to either side.
    let names: Vec<_> = Sysno::iter().step_by(2).map(|call| call.name()).collect();
    let rules: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(value, name)| {
            json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": [
                { "index": 0, "op": "SCMP_CMP_EQ", "value": value },
            ] })
        })
        .collect();
    let program = program(&json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules }));
    for (value, name) in names.iter().enumerate() {
        let answer = |argument| run(&program, &Call::new(name, [argument, 0, 0, 0, 0, 0]));
        let value = u64::try_from(value).expect("a small number");
        assert_eq!((answer(value), answer(value + 1)), (ALLOW, errno(1)), "{name}");
    }
    assert!(program.len() > 1000);
}

#[test]
fn what_is_no_filter_is_refused() {
    let one = |rule: serde_json::Value| json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    let table = [
        (json!({ "defaultAction": "SCMP_ACT_NOTIFY" }), "there is none"),
        (one(json!({ "names": ["read"], "action": "SCMP_ACT_TRACE" })), "there is none"),
        (
            one(json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096 })),
            "no error number for read",
        ),
        (
            one(json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [
                { "index": 6, "op": "SCMP_CMP_EQ", "value": 0 },
            ] })),
            "argument 6",
        ),
    ];
    for (profile, reason) in table {
        let error = filter(&profile).expect_err("no filter").to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_filter_that_was_kept_is_the_same() {
    let profile: LinuxSeccomp = serde_json::from_value(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [{ "names": ["read", "write", "exit"], "action": "SCMP_ACT_ALLOW" }],
    }))
    .expect("a profile");
    let filter = Filter::new(&profile).expect("a filter");
    let kept = filter.to_bytes();
    assert_eq!(Filter::from_bytes(&kept), Some(filter));
    assert_eq!(Filter::from_bytes(&kept[..kept.len() - 1]), None);
    assert_eq!(Filter::from_bytes(&[]), None);
}
