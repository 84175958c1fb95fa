//! The decision graph: tests with a continuation for each result, without cycles.
//!
//! It is built from the end, so equal continuations are one node from the start. Then jumps skip tests
//! whose results are known on all paths to the jump ([`Facts`]), and tests of one value move together
//! (`reorder`), until nothing changes. A test whose result does not matter is dropped with its loads, as
//! libpcap does: a frame that ends inside a header is rejected only if the missing bytes decide.

use std::collections::HashMap;

use crate::ast::Join;
use crate::facts::Facts;
use crate::lower::{Condition, Lowered};
use crate::reorder;
use crate::values::{Test, Values};

/// Where a path continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Next {
    Reject,
    Accept,
    Node(usize),
}

/// A test and its continuations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) test: Test,
    pub(crate) yes: Next,
    pub(crate) no: Next,
}

/// A graph. A node's continuations have smaller numbers than the node.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) root: Option<Next>,
    known: HashMap<Node, usize>,
}

/// How often the optimiser goes over a graph at most: less often over a large one, so that the time is
/// bounded.
fn rounds(nodes: usize) -> usize {
    (12_000 / nodes.max(1)).clamp(4, 60)
}

impl Graph {
    /// The graph of a lowered expression, made small.
    pub(crate) fn optimised(lowered: &Lowered) -> Self {
        let mut graph = Self::built(lowered);
        let values = &lowered.values;
        for _ in 0..rounds(graph.nodes.len()) {
            let threaded = graph.thread(values);
            graph = graph.rebuilt();
            let reordered = reorder::reorder(&mut graph);
            graph = graph.rebuilt();
            if !threaded && !reordered {
                break;
            }
        }
        graph
    }

    /// The graph as the expression says it.
    pub(crate) fn built(lowered: &Lowered) -> Self {
        let mut graph = Self::default();
        let mut root = graph.build(&lowered.plain, Next::Accept, Next::Reject);
        if let Some((test, condition)) = &lowered.tagged {
            let tagged = graph.build(condition, Next::Accept, Next::Reject);
            root = graph.add(Node {
                test: *test,
                yes: tagged,
                no: root,
            });
        }
        graph.root = Some(root);
        graph
    }

    pub(crate) fn add(&mut self, node: Node) -> Next {
        let free = self.nodes.len();
        let at = *self.known.entry(node).or_insert(free);
        if at == free {
            self.nodes.push(node);
        }
        Next::Node(at)
    }

    fn build(&mut self, condition: &Condition, yes: Next, no: Next) -> Next {
        match condition {
            Condition::Constant(true) => yes,
            Condition::Constant(false) => no,
            Condition::Test(test) => self.add(Node {
                test: *test,
                yes,
                no,
            }),
            Condition::Not(inner) => self.build(inner, no, yes),
            Condition::Chain(parts) => {
                let (mut yes, mut no) = (yes, no);
                for (at, (join, part)) in parts.iter().enumerate().rev() {
                    let next = self.build(part, yes, no);
                    match (at, join) {
                        (0, _) => return next,
                        (_, Join::And) => yes = next,
                        (_, Join::Or) => no = next,
                    }
                }
                yes
            }
        }
    }

    /// Lets each jump skip tests whose results are known there. Whether anything changed.
    fn thread(&mut self, values: &Values) -> bool {
        let mut known: Vec<Option<Facts>> = vec![None; self.nodes.len()];
        let mut changed = false;
        let root = self.follow(self.root.unwrap_or(Next::Reject), &Facts::default(), values);
        changed |= self.root != Some(root);
        self.root = Some(root);
        if let Next::Node(at) = root
            && let Some(entry) = known.get_mut(at)
        {
            *entry = Some(Facts::default());
        }
        for at in (0..self.nodes.len()).rev() {
            let Some(facts) = known.get_mut(at).and_then(Option::take) else {
                continue;
            };
            let Some(mut node) = self.nodes.get(at).copied() else {
                continue;
            };
            for (result, next) in [(true, &mut node.yes), (false, &mut node.no)] {
                let mut facts = facts.clone();
                facts.learn(node.test, result, values);
                let target = self.follow(*next, &facts, values);
                changed |= target != *next;
                *next = target;
                if let Next::Node(target) = target
                    && let Some(entry) = known.get_mut(target)
                {
                    match entry {
                        Some(met) => met.meet(&facts),
                        None => *entry = Some(facts),
                    }
                }
            }
            if let Some(place) = self.nodes.get_mut(at) {
                *place = node;
            }
        }
        changed
    }

    /// Where a jump to `next` leads, if these facts are known.
    fn follow(&self, mut next: Next, facts: &Facts, values: &Values) -> Next {
        while let Next::Node(at) = next {
            let Some(node) = self.nodes.get(at) else {
                break;
            };
            match facts.decide(node.test, values) {
                Some(true) => next = node.yes,
                Some(false) => next = node.no,
                None if node.yes == node.no => next = node.yes,
                None => break,
            }
        }
        next
    }

    /// The nodes that the root leads to; equal ones are one again.
    fn rebuilt(&self) -> Self {
        let mut used = vec![false; self.nodes.len()];
        let mark = |used: &mut Vec<bool>, next| {
            if let Next::Node(at) = next
                && let Some(flag) = used.get_mut(at)
            {
                *flag = true;
            }
        };
        let root = self.root.unwrap_or(Next::Reject);
        mark(&mut used, root);
        for (at, node) in self.nodes.iter().enumerate().rev() {
            if used.get(at) == Some(&true) {
                mark(&mut used, node.yes);
                mark(&mut used, node.no);
            }
        }
        let mut graph = Self::default();
        let mut places = vec![Next::Reject; self.nodes.len()];
        let place = |places: &[Next], next| match next {
            Next::Node(at) => places.get(at).copied().unwrap_or(Next::Reject),
            end => end,
        };
        for (at, node) in self.nodes.iter().enumerate() {
            if used.get(at) == Some(&true) {
                let (yes, no) = (place(&places, node.yes), place(&places, node.no));
                let next = graph.add(Node {
                    test: node.test,
                    yes,
                    no,
                });
                if let Some(entry) = places.get_mut(at) {
                    *entry = next;
                }
            }
        }
        graph.root = Some(place(&places, root));
        graph
    }
}
