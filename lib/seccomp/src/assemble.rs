//! From rules to instructions.

use std::collections::BTreeMap;

use sys::seccomp::Instruction;

use crate::program::{Label, Program, Test};
use crate::rules::{Answer, Call, Comparison, Condition, Rules};

/// Where things are in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `AUDIT_ARCH_X86_64` of linux/audit.h.
const X86_64: u32 = 0xc000_003e;
/// From this bit on, numbers are x32's (`__X32_SYSCALL_BIT`).
const X32: u32 = 0x4000_0000;
/// `SECCOMP_RET_KILL_PROCESS`.
const KILL: Answer = 0x8000_0000;

/// The numbers from one to the next range.
#[derive(Debug)]
struct Range<'a> {
    from: u32,
    what: What<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What<'a> {
    Answer(Answer),
    /// It depends on the arguments.
    Ask(&'a Call),
}

/// The program for `rules`.
pub(crate) fn assemble(rules: &Rules) -> Vec<Instruction> {
    let mut program = Program::default();
    let [ours, foreign] = [(); 2].map(|()| program.label());
    program.load(ARCHITECTURE);
    program.branch(Test::Equal, X86_64, ours, foreign);
    program.here(foreign);
    program.give(KILL);
    program.here(ours);
    program.load(NUMBER);
    let mut answers = Answers::default();
    search(&mut program, &mut answers, &ranges(rules), rules.default);
    for (answer, label) in answers.0 {
        program.here(label);
        program.give(answer);
    }
    program.finish()
}

/// Where each answer is given: once, at the end.
#[derive(Debug, Default)]
struct Answers(BTreeMap<Answer, Label>);

impl Answers {
    fn label(&mut self, program: &mut Program, answer: Answer) -> Label {
        *self.0.entry(answer).or_insert_with(|| program.label())
    }
}

/// All numbers, in ranges that are answered alike.
fn ranges(rules: &Rules) -> Vec<Range<'_>> {
    let mut ranges: Vec<Range<'_>> = Vec::new();
    let mut add = |from, what| {
        if ranges.last().is_none_or(|last| last.what != what) {
            ranges.push(Range { from, what });
        }
    };
    let mut next = 0;
    for (&number, call) in &rules.calls {
        if next < number {
            add(next, What::Answer(rules.default));
        }
        match call.rules.first() {
            Some((conditions, answer)) if conditions.is_empty() => add(number, What::Answer(*answer)),
            _ => add(number, What::Ask(call)),
        }
        next = number + 1;
    }
    add(next, What::Answer(rules.default));
    add(X32, What::Answer(KILL));
    ranges
}

/// Finds the range that the loaded number is in, by halves.
fn search(program: &mut Program, answers: &mut Answers, ranges: &[Range<'_>], default: Answer) {
    let halves = ranges.split_at(ranges.len() / 2);
    match (halves, ranges) {
        (_, [Range { what: What::Ask(call), .. }]) => ask(program, answers, call, default),
        ((lower, upper @ [first, ..]), [_, _, ..]) => {
            let [below, above] = [lower, upper].map(|half| match half {
                [Range { what: What::Answer(answer), .. }] => answers.label(program, *answer),
                _ => program.label(),
            });
            program.branch(Test::AtLeast, first.from, above, below);
            for (half, label) in [(lower, below), (upper, above)] {
                if !matches!(half, [Range { what: What::Answer(_), .. }]) {
                    program.here(label);
                    search(program, answers, half, default);
                }
            }
        }
        // One answer alone is given at the end.
        _ => {}
    }
}

/// Tries one rule after the other.
fn ask(program: &mut Program, answers: &mut Answers, call: &Call, default: Answer) {
    let otherwise = answers.label(program, default);
    for (number, (conditions, answer)) in call.rules.iter().enumerate() {
        let Some((last, others)) = conditions.split_last() else {
            program.give(*answer);
            return;
        };
        let is_last = number + 1 == call.rules.len();
        let next = if is_last { otherwise } else { program.label() };
        for condition in others {
            let holds = program.label();
            compare(program, *condition, holds, next);
            program.here(holds);
        }
        let answer = answers.label(program, *answer);
        compare(program, *last, answer, next);
        if !is_last {
            program.here(next);
        }
    }
}

/// Goes to `holds` when `condition` is true, else to `fails`. Words have 32 bits and arguments 64, the lower word first.
fn compare(program: &mut Program, condition: Condition, holds: Label, fails: Label) {
    let argument = Argument { offset: ARGUMENTS + 8 * condition.argument };
    match condition.comparison {
        Comparison::Equal(value) => argument.equals(program, u64::MAX, value, holds, fails),
        Comparison::NotEqual(value) => argument.equals(program, u64::MAX, value, fails, holds),
        Comparison::Masked(mask, value) => argument.equals(program, mask, value, holds, fails),
        Comparison::Greater(value) => argument.exceeds(program, Test::Greater, value, holds, fails),
        Comparison::GreaterOrEqual(value) => argument.exceeds(program, Test::AtLeast, value, holds, fails),
        Comparison::LessOrEqual(value) => argument.exceeds(program, Test::Greater, value, fails, holds),
        Comparison::Less(value) => argument.exceeds(program, Test::AtLeast, value, fails, holds),
    }
}

/// An argument of the call.
#[derive(Clone, Copy, Debug)]
struct Argument {
    offset: u32,
}

impl Argument {
    fn equals(self, program: &mut Program, mask: u64, value: u64, then: Label, otherwise: Label) {
        let [(low_mask, high_mask), (low_value, high_value)] = [mask, value].map(words);
        // Masks are mostly about the lower half.
        if (high_mask, high_value) != (0, 0) {
            let low = program.label();
            Self::half_equals(program, self.offset + 4, high_mask, high_value, low, otherwise);
            program.here(low);
        }
        Self::half_equals(program, self.offset, low_mask, low_value, then, otherwise);
    }

    fn half_equals(program: &mut Program, offset: u32, mask: u32, value: u32, then: Label, otherwise: Label) {
        program.load(offset);
        if mask != u32::MAX {
            program.and(mask);
        }
        program.branch(Test::Equal, value, then, otherwise);
    }

    /// Whether it is greater than `value`, or at least that, as `test` says.
    fn exceeds(self, program: &mut Program, test: Test, value: u64, then: Label, otherwise: Label) {
        let [same, low] = [(); 2].map(|()| program.label());
        let (low_value, high_value) = words(value);
        program.load(self.offset + 4);
        program.branch(Test::Greater, high_value, then, same);
        program.here(same);
        program.branch(Test::Equal, high_value, low, otherwise);
        program.here(low);
        program.load(self.offset);
        program.branch(test, low_value, then, otherwise);
    }
}

/// The lower and the upper half.
#[expect(clippy::cast_possible_truncation, reason = "halves are wanted")]
fn words(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}
