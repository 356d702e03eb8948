//! What a profile says, call by call.

use std::collections::BTreeMap;
use std::str::FromStr;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator};
use syscalls::Sysno;

use crate::Error;

/// The error of an action that names none.
const EPERM: u32 = 1;
/// `MAX_ERRNO` of linux/err.h.
const MAX_ERRNO: u32 = 4095;

/// An answer to a system call: `SECCOMP_RET_*` of linux/seccomp.h with its data.
pub(crate) type Answer = u32;

/// What is asked of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// 0 to 5.
    pub(crate) argument: u32,
    pub(crate) comparison: Comparison,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    /// These bits of it, and what they must be.
    Masked(u64, u64),
}

/// What a call is answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Call {
    /// The first whose conditions are all true counts.
    pub(crate) rules: Vec<(Vec<Condition>, Answer)>,
}

/// A profile.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) default: Answer,
    /// By number.
    pub(crate) calls: BTreeMap<u32, Call>,
}

impl Rules {
    pub(crate) fn new(profile: &LinuxSeccomp) -> Result<Self, Error> {
        let default = answer("the default action", profile.default_action(), profile.default_errno_ret())?;
        let mut calls: BTreeMap<u32, Call> = BTreeMap::new();
        for rule in profile.syscalls().iter().flatten() {
            for name in rule.names() {
                let answer = answer(name, rule.action(), rule.errno_ret())?;
                let conditions: Vec<_> = rule
                    .args()
                    .iter()
                    .flatten()
                    .map(|argument| condition(name, argument))
                    .collect::<Result<_, _>>()?;
                if let Ok(call) = Sysno::from_str(name) {
                    let number = u32::try_from(call.id()).unwrap_or(u32::MAX);
                    calls.entry(number).or_default().rules.push((conditions, answer));
                }
            }
        }
        Ok(Self { default, calls })
    }
}

fn answer(name: &str, action: LinuxSeccompAction, errno: Option<u32>) -> Result<Answer, Error> {
    let data = errno.unwrap_or(EPERM);
    if data > MAX_ERRNO {
        return Err(Error::Errno { name: name.to_owned(), errno: data });
    }
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => 0,
        LinuxSeccompAction::ScmpActKillProcess => 0x8000_0000,
        LinuxSeccompAction::ScmpActTrap => 0x0003_0000,
        LinuxSeccompAction::ScmpActErrno => 0x0005_0000 | data,
        LinuxSeccompAction::ScmpActLog => 0x7ffc_0000,
        LinuxSeccompAction::ScmpActAllow => 0x7fff_0000,
        LinuxSeccompAction::ScmpActNotify | LinuxSeccompAction::ScmpActTrace => {
            return Err(Error::Action(action.to_string()));
        }
    })
}

fn condition(name: &str, argument: &LinuxSeccompArg) -> Result<Condition, Error> {
    let value = argument.value();
    let comparison = match argument.op() {
        LinuxSeccompOperator::ScmpCmpEq => Comparison::Equal(value),
        LinuxSeccompOperator::ScmpCmpNe => Comparison::NotEqual(value),
        LinuxSeccompOperator::ScmpCmpLt => Comparison::Less(value),
        LinuxSeccompOperator::ScmpCmpLe => Comparison::LessOrEqual(value),
        LinuxSeccompOperator::ScmpCmpGt => Comparison::Greater(value),
        LinuxSeccompOperator::ScmpCmpGe => Comparison::GreaterOrEqual(value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => Comparison::Masked(value, argument.value_two().unwrap_or(0)),
    };
    match u32::try_from(argument.index()) {
        Ok(argument @ 0..=5) => Ok(Condition { argument, comparison }),
        _ => Err(Error::Argument { name: name.to_owned(), index: argument.index() }),
    }
}
