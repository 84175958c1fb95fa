//! Tests of one value, moved together: the value is loaded once.
//!
//! `port 80 or port 443` tests source, destination, source, destination. A run of tests of which each
//! continues with the next if it fails, and all continue at one place if they succeed, may be in any
//! order; the same holds with the results exchanged. Only nodes that no other path leads to are moved.
//!
//! Invariant: a test moves only behind one that has loaded everything it needs. A load beyond the end of the
//! frame rejects it, so a test with a load of its own must not come before one that would accept the frame.

use crate::graph::{Graph, Next, Node};
use crate::values::{Right, Test};

/// Moves tests of one value together. Whether anything changed.
pub(crate) fn reorder(graph: &mut Graph) -> bool {
    let mut paths = vec![0_usize; graph.nodes.len()];
    for node in &graph.nodes {
        for next in [node.yes, node.no] {
            if let Next::Node(at) = next
                && let Some(count) = paths.get_mut(at)
            {
                *count += 1;
            }
        }
    }
    let mut done = vec![false; graph.nodes.len()];
    let mut changed = false;
    for start in (0..graph.nodes.len()).rev() {
        for on_yes in [false, true] {
            if done.get(start) == Some(&false) {
                let run = run(graph, &paths, start, on_yes);
                changed |= sort(graph, &run);
                if run.len() > 1 {
                    for at in run {
                        if let Some(flag) = done.get_mut(at) {
                            *flag = true;
                        }
                    }
                }
            }
        }
    }
    changed
}

/// The run of nodes from `start`: each continues with the next on this result, and all at one place
/// on the other result.
fn run(graph: &Graph, paths: &[usize], start: usize, on_yes: bool) -> Vec<usize> {
    let mut run = vec![start];
    let mut at = start;
    while let Some(node) = graph.nodes.get(at) {
        let (next, end) = if on_yes {
            (node.yes, node.no)
        } else {
            (node.no, node.yes)
        };
        let Next::Node(next) = next else { break };
        let Some(following) = graph.nodes.get(next) else {
            break;
        };
        let same_end = end == if on_yes { following.no } else { following.yes };
        if !same_end || paths.get(next) != Some(&1) {
            break;
        }
        run.push(next);
        at = next;
    }
    run
}

/// Sorts the tests of a run by the first place of their values, the right one too if it is not a constant.
fn sort(graph: &mut Graph, run: &[usize]) -> bool {
    let tests: Vec<Test> = run
        .iter()
        .filter_map(|at| graph.nodes.get(*at))
        .map(|node| node.test)
        .collect();
    let key = |test: &Test| match test.right {
        Right::Constant(_) => (test.left, None),
        Right::Value(right) => (test.left, Some(right)),
    };
    let mut sorted: Vec<Test> = Vec::with_capacity(tests.len());
    for test in &tests {
        let last = sorted.iter().rposition(|earlier| key(earlier) == key(test));
        sorted.insert(last.map_or(sorted.len(), |last| last + 1), *test);
    }
    let changed = sorted != tests;
    if changed {
        for (at, test) in run.iter().zip(sorted) {
            if let Some(Node { test: place, .. }) = graph.nodes.get_mut(*at) {
                *place = test;
            }
        }
    }
    changed
}
