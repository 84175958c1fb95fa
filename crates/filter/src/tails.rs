//! Equal ends of code, shared: two paths that do the same from some place on have one copy of it.
//!
//! Two tests of different bytes are different nodes of the graph. Behind their loads they can be the
//! same instructions: a port of IPv4 and one of IPv6 are compared with the same number.

use std::collections::HashMap;

use crate::layout::{Code, Item, Label};

/// What a place does: an instruction, and what follows it.
#[derive(PartialEq, Eq, Hash)]
enum Does {
    /// The code and `k` of an instruction, and the behaviour of the next place.
    Plain(u16, u32, usize),
    Jump(u16, u32, Target, Target),
    Always(Target),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Target {
    Accept,
    Reject,
    /// A place, by the last one that behaves the same.
    Place(usize),
}

/// Lets jumps to equal code lead to its last copy, and drops what nothing reaches.
pub(crate) fn share(code: Code) -> Code {
    let Code { items, mut labels } = code;
    let count = items.len();
    // The last place that behaves as each place does.
    let mut same: Vec<usize> = (0..=count).collect();
    let mut known: HashMap<Does, usize> = HashMap::new();
    for (at, item) in items.iter().enumerate().rev() {
        let target = |label| match label {
            Label::Accept => Target::Accept,
            Label::Reject => Target::Reject,
            Label::Local(label) => {
                let place = labels.get(label).copied().unwrap_or(count);
                Target::Place(same.get(place).copied().unwrap_or(place))
            }
        };
        let does = match *item {
            Item::Plain(plain) => Does::Plain(
                plain.code,
                plain.k,
                same.get(at + 1).copied().unwrap_or(count),
            ),
            Item::Jump { code, k, yes, no } => Does::Jump(code, k, target(yes), target(no)),
            Item::Always(label) => Does::Always(target(label)),
        };
        let last = *known.entry(does).or_insert(at);
        if let Some(entry) = same.get_mut(at) {
            *entry = last;
        }
    }
    for label in &mut labels {
        *label = same.get(*label).copied().unwrap_or(*label);
    }
    without_unreached(&items, labels)
}

/// The items that the first one leads to.
fn without_unreached(items: &[Item], mut labels: Vec<usize>) -> Code {
    let mut reached = vec![false; items.len() + 1];
    let reach = |reached: &mut Vec<bool>, label| {
        if let Label::Local(label) = label
            && let Some(place) = labels.get(label)
            && let Some(flag) = reached.get_mut(*place)
        {
            *flag = true;
        }
    };
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    for (at, item) in items.iter().enumerate() {
        if reached.get(at) != Some(&true) {
            continue;
        }
        match *item {
            Item::Plain(_) => {
                if let Some(next) = reached.get_mut(at + 1) {
                    *next = true;
                }
            }
            Item::Jump { yes, no, .. } => {
                reach(&mut reached, yes);
                reach(&mut reached, no);
            }
            Item::Always(label) => reach(&mut reached, label),
        }
    }
    let mut places = Vec::with_capacity(reached.len());
    let mut kept = Vec::with_capacity(items.len());
    for (at, is_reached) in reached.iter().enumerate() {
        places.push(kept.len());
        kept.extend(items.get(at).filter(|_| *is_reached));
    }
    for label in &mut labels {
        *label = places.get(*label).copied().unwrap_or(0);
    }
    Code {
        items: kept,
        labels,
    }
}
