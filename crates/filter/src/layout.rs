//! Places of instructions, and jumps that are too far for their 8 bits.
//!
//! A conditional jump that is too far jumps to an instruction behind it, which is an unconditional jump
//! (32 bits) or the return that is the target. Nothing falls through to it, because a conditional jump
//! names both of its targets.

use crate::program::{Instruction, WHOLE, code};

/// A place that is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    Reject,
    Accept,
    /// The place of this number in [`Code::labels`].
    Local(usize),
}

/// An instruction, or a jump to places that are not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    Plain(Instruction),
    Jump {
        code: u16,
        k: u32,
        yes: Label,
        no: Label,
    },
    Always(Label),
}

impl Item {
    fn leads_to(&self, end: Label) -> bool {
        match *self {
            Self::Plain(_) => false,
            Self::Jump { yes, no, .. } => yes == end || no == end,
            Self::Always(label) => label == end,
        }
    }
}

/// Code with labels.
#[derive(Debug, Default)]
pub(crate) struct Code {
    pub(crate) items: Vec<Item>,
    /// The index of an item for each label.
    pub(crate) labels: Vec<usize>,
}

/// No expression of an allowed length needs more items to become a valid program.
const MAX_ITEMS: usize = 1 << 16;

/// Gives each instruction its place.
pub(crate) fn layout(code: Code) -> Option<Vec<Instruction>> {
    let Code { mut items, labels } = code;
    if items.len() > MAX_ITEMS {
        return None;
    }
    let [accept, reject] = [Label::Accept, Label::Reject]
        .map(|end| items.iter().any(|item| item.leads_to(end)).then_some(end));
    let first_return = items.len();
    items.extend(accept.map(|_| returns(WHOLE)));
    items.extend(reject.map(|_| returns(0)));
    let last = items.len() - 1;
    let target = |label| match label {
        Label::Accept => first_return,
        Label::Reject => last,
        Label::Local(label) => labels.get(label).copied().unwrap_or(last),
    };
    // For each item whether its two jumps go over an instruction behind it.
    let mut far = vec![(false, false); items.len()];
    loop {
        let places = places(&far);
        let place = |at: usize| places.get(at).copied().unwrap_or(0);
        let mut changed = false;
        for (at, item) in items.iter().enumerate() {
            let Item::Jump { yes, no, .. } = item else {
                continue;
            };
            let from = place(at) + 1;
            let Some((far_yes, far_no)) = far.get_mut(at) else {
                continue;
            };
            for (flag, label) in [(far_yes, yes), (far_no, no)] {
                let distance = place(target(*label)).checked_sub(from)?;
                if !*flag && distance > usize::from(u8::MAX) {
                    (*flag, changed) = (true, true);
                }
            }
        }
        if !changed {
            return assemble(&items, &far, &places, target, first_return);
        }
    }
}

const fn returns(bytes: u32) -> Item {
    Item::Plain(Instruction {
        code: code::RET,
        jt: 0,
        jf: 0,
        k: bytes,
    })
}

fn places(far: &[(bool, bool)]) -> Vec<usize> {
    let mut next = 0;
    let place = |(yes, no): &(bool, bool)| {
        let place = next;
        next += 1 + usize::from(*yes) + usize::from(*no);
        place
    };
    far.iter().map(place).collect()
}

fn assemble(
    items: &[Item],
    far: &[(bool, bool)],
    places: &[usize],
    target: impl Fn(Label) -> usize,
    first_return: usize,
) -> Option<Vec<Instruction>> {
    let mut program = Vec::with_capacity(items.len());
    // An instruction that goes to a label from the place where it will be.
    let always = |at: usize, label: Label| {
        let distance = places.get(target(label))?.checked_sub(at + 1)?;
        let k = u32::try_from(distance).ok()?;
        Some(Instruction {
            code: code::JA,
            jt: 0,
            jf: 0,
            k,
        })
    };
    for (item, (far_yes, far_no)) in items.iter().zip(far) {
        match *item {
            Item::Plain(instruction) => program.push(instruction),
            Item::Always(label) => program.push(always(program.len(), label)?),
            Item::Jump { code, k, yes, no } => {
                let at = program.len();
                let near = |label| {
                    let distance = places.get(target(label))?.checked_sub(at + 1)?;
                    u8::try_from(distance).ok()
                };
                let jt = if *far_yes { 0 } else { near(yes)? };
                let jf = if *far_no {
                    u8::from(*far_yes)
                } else {
                    near(no)?
                };
                program.push(Instruction { code, jt, jf, k });
                for (is_far, label) in [(*far_yes, yes), (*far_no, no)] {
                    if is_far {
                        let here = program.len();
                        program.push(match items.get(target(label)) {
                            Some(Item::Plain(returned)) if target(label) >= first_return => {
                                *returned
                            }
                            _ => always(here, label)?,
                        });
                    }
                }
            }
        }
    }
    Some(program)
}
