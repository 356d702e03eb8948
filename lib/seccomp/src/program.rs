//! Classic BPF as seccomp has it: instructions, and labels while they are put together (linux/filter.h, linux/seccomp.h).

use sys::seccomp::Instruction;

/// Load a word of `struct seccomp_data` (`BPF_LD | BPF_W | BPF_ABS`).
const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
const GO: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const IF_EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`.
const IF_GREATER: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`.
const IF_AT_LEAST: u16 = 0x35;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// A comparison of the loaded word with a constant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Test {
    Equal,
    Greater,
    AtLeast,
}

/// A place in the program, maybe one that is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

#[derive(Debug)]
enum Step {
    Plain(u16, u32),
    /// To the first place when the test is true, else to the second.
    Branch(u16, u32, Label, Label),
}

/// A program that is being written.
#[derive(Debug, Default)]
pub(crate) struct Program {
    steps: Vec<Step>,
    /// Where each label is; absent until it is known.
    places: Vec<Option<usize>>,
}

impl Program {
    pub(crate) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// The next instruction is where `label` is.
    pub(crate) fn here(&mut self, label: Label) {
        if let Some(place) = self.places.get_mut(label.0) {
            *place = Some(self.steps.len());
        }
    }

    pub(crate) fn load(&mut self, offset: u32) {
        self.steps.push(Step::Plain(LOAD, offset));
    }

    pub(crate) fn and(&mut self, mask: u32) {
        self.steps.push(Step::Plain(AND, mask));
    }

    pub(crate) fn give(&mut self, answer: u32) {
        self.steps.push(Step::Plain(RETURN, answer));
    }

    pub(crate) fn branch(&mut self, test: Test, value: u32, then: Label, otherwise: Label) {
        let code = match test {
            Test::Equal => IF_EQUAL,
            Test::Greater => IF_GREATER,
            Test::AtLeast => IF_AT_LEAST,
        };
        self.steps.push(Step::Branch(code, value, then, otherwise));
    }

    /// The instructions. A comparison reaches 255 of them far; what is farther takes a jump of its own, so places are found
    /// by writing all of it again until no further one is needed.
    pub(crate) fn finish(&self) -> Vec<Instruction> {
        // For each step: whether its two ways are long.
        let mut long = vec![[false; 2]; self.steps.len()];
        loop {
            let starts = self.starts(&long);
            let mut changed = false;
            for (number, step) in self.steps.iter().enumerate() {
                let Step::Branch(_, _, then, otherwise) = step else { continue };
                for (way, label) in [then, otherwise].into_iter().enumerate() {
                    let far = self.distance(&starts, number, *label) > usize::from(u8::MAX);
                    if far && !long[number][way] {
                        long[number][way] = true;
                        changed = true;
                    }
                }
            }
            if !changed {
                return self.write(&starts, &long);
            }
        }
    }

    /// Where each step begins, and the end.
    fn starts(&self, long: &[[bool; 2]]) -> Vec<usize> {
        let lengths = long.iter().map(|ways| 1 + ways.iter().filter(|far| **far).count());
        let ends = lengths.scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        std::iter::once(0).chain(ends).collect()
    }

    /// How many instructions lie between a comparison and a place after it.
    fn distance(&self, starts: &[usize], step: usize, label: Label) -> usize {
        let place = self.places[label.0].map_or(0, |step| starts[step]);
        place.saturating_sub(starts[step] + 1)
    }

    fn write(&self, starts: &[usize], long: &[[bool; 2]]) -> Vec<Instruction> {
        let mut instructions = Vec::new();
        for (number, step) in self.steps.iter().enumerate() {
            match step {
                Step::Plain(code, value) => {
                    instructions.push(Instruction { code: *code, if_true: 0, if_false: 0, value: *value });
                }
                Step::Branch(code, value, then, otherwise) => {
                    let first = instructions.len();
                    instructions.push(Instruction { code: *code, if_true: 0, if_false: 0, value: *value });
                    let mut ways = [0; 2];
                    for (way, label) in [then, otherwise].into_iter().enumerate() {
                        let distance = self.distance(starts, number, *label);
                        ways[way] = if long[number][way] {
                            let jump = instructions.len() - first - 1;
                            let value = u32::try_from(distance - jump - 1).unwrap_or(u32::MAX);
                            instructions.push(Instruction { code: GO, if_true: 0, if_false: 0, value });
                            jump
                        } else {
                            distance
                        };
                    }
                    let [if_true, if_false] = ways.map(|way| u8::try_from(way).unwrap_or(u8::MAX));
                    instructions[first] = Instruction { code: *code, if_true, if_false, value: *value };
                }
            }
        }
        instructions
    }
}
