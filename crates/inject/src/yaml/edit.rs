//! A plan as edits of text.
//!
//! In: the text, the node of a pod's `spec`, and the steps of a plan. Out: [`Edit`]s, or `None` where the
//! layout is so unusual that an edit would touch something else. Two rules make every edit reversible:
//!
//! - In block style whole lines are added, so removal deletes exactly these lines.
//! - In flow style an entry is added together with the comma and the gap to its neighbour, so removal deletes
//!   from one entry to the other.
//!
//! Comment lines directly above a key or an entry belong to it, so podspan is added above them.

use std::ops::Range;

use super::node::{Kind, Node};
use crate::step::{List, Rest, Step};
use crate::tree::{Style, Tree};

/// Bytes, and what replaces them.
pub(crate) type Edit = (Range<usize>, String);

/// The edits of one pod.
pub(crate) fn edits(text: &str, spec: &Node, steps: &[Step]) -> Option<Vec<Edit>> {
    let removed = steps.iter().filter_map(|step| match step {
        Step::Remove(list, _, Rest::Nothing) => Some(list.field()),
        _ => None,
    });
    let editor = Editor {
        text,
        spec,
        removed: removed.collect(),
        newline: if text.contains("\r\n") { "\r\n" } else { "\n" },
    };
    let mut edits = Vec::new();
    // At one place, the last entry of the list above comes before a new list.
    let (new, others): (Vec<_>, Vec<_>) = steps
        .iter()
        .partition(|step| matches!(step, Step::AddList(..)));
    for step in others.into_iter().chain(new) {
        edits.extend(match step {
            Step::AddList(list, tree) => vec![editor.add_list(*list, tree)?],
            Step::FillList(list, tree) => vec![editor.fill_list(*list, tree)?],
            Step::InsertFirst(tree) => vec![editor.insert_first(tree)?],
            Step::Append(list, tree) => vec![editor.append(*list, tree)?],
            Step::Replace(list, place, tree) => vec![editor.replace(*list, *place, tree)?],
            Step::Remove(list, place, rest) => editor.remove(*list, *place, rest)?,
        });
    }
    Some(edits)
}

/// The text after all edits; `None` if two overlap that are no removals, or one is outside of the text.
pub(crate) fn apply(text: &str, mut edits: Vec<Edit>) -> Option<String> {
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let mut output = String::with_capacity(text.len());
    let mut done = 0;
    for (range, new) in edits {
        // At the end of a text, two removals may both have the line break between them.
        let start = if new.is_empty() {
            range.start.max(done)
        } else {
            range.start
        };
        output.push_str(text.get(done..start)?);
        output.push_str(&new);
        done = range.end.max(start);
    }
    output.push_str(text.get(done..)?);
    Some(output)
}

struct Editor<'a> {
    text: &'a str,
    spec: &'a Node,
    /// The keys that go.
    removed: Vec<&'static str>,
    newline: &'static str,
}

impl<'a> Editor<'a> {
    fn add_list(&self, list: List, tree: &Tree) -> Option<Edit> {
        let (key, _) = self.spec.entry("containers")?;
        let field = list.field();
        if self.in_flow() {
            let style = self.style(key.start, self.spec);
            let list = Tree::List(vec![tree.clone()]).json(&style);
            let added = format!("\"{field}\": {list},{}", style.gap());
            return Some((key.start..key.start, added));
        }
        let column = self.column(key.start)?;
        let lists = self.list_indent()?;
        let entry = tree.entry(lists);
        let lines = entry
            .iter()
            .map(|line| format!("{}{line}", " ".repeat(lists)));
        let lines: Vec<_> = [format!("{field}:")].into_iter().chain(lines).collect();
        let at = self.above_comments(self.line_start(key.start), column);
        Some((at..at, self.lines(&lines, column)))
    }

    fn fill_list(&self, list: List, tree: &Tree) -> Option<Edit> {
        let (key, value) = self.spec.entry(list.field())?;
        if value.tag.is_some() {
            return None;
        }
        match &value.kind {
            Kind::Seq { flow: true, .. } => {
                let at = value.start + 1;
                Some((at..at, tree.json(&Style::Line)))
            }
            Kind::Scalar { .. } if value.start < value.end => {
                let list = Tree::List(vec![tree.clone()]).json(&Style::Line);
                Some((value.start..value.end, list))
            }
            Kind::Scalar { .. } if !self.in_flow() => {
                let column = self.column(key.start)?;
                let lists = self.list_indent()?;
                Some(self.lines_after(key.end, &tree.entry(lists), column + lists))
            }
            _ => None,
        }
    }

    fn insert_first(&self, tree: &Tree) -> Option<Edit> {
        let (key, list, items, flow) = self.list(List::Init)?;
        if flow {
            let at = items.first()?.start;
            let style = self.style(at, list);
            return Some((at..at, format!("{},{}", tree.json(&style), style.gap())));
        }
        let (line, column) = self.dash(key, items, 0)?;
        let at = self.above_comments(line, column);
        Some((at..at, self.lines(&tree.entry(self.list_indent()?), column)))
    }

    fn append(&self, list: List, tree: &Tree) -> Option<Edit> {
        let (key, list, items, flow) = self.list(list)?;
        let neighbour = items.last()?;
        if flow {
            let style = self.style(neighbour.start, list);
            let added = format!(",{}{}", style.gap(), tree.json(&style));
            return Some((neighbour.end..neighbour.end, added));
        }
        let (_, column) = self.dash(key, items, 0)?;
        Some(self.lines_after(neighbour.end, &tree.entry(self.list_indent()?), column))
    }

    fn replace(&self, list: List, place: usize, tree: &Tree) -> Option<Edit> {
        let (key, list, items, flow) = self.list(list)?;
        let item = items.get(place)?;
        if flow {
            let style = self.style(item.start, list);
            return Some((item.start..item.end, tree.json(&style)));
        }
        let (start, column) = self.dash(key, items, place)?;
        let range = start..self.line_end(item.end);
        let mut lines = self.lines(&tree.entry(self.list_indent()?), column);
        if !self.text.get(range.clone())?.ends_with('\n') {
            lines.truncate(lines.len() - self.newline.len());
        }
        Some((range, lines))
    }

    fn remove(&self, list: List, place: usize, rest: &Rest) -> Option<Vec<Edit>> {
        let (key, value, items, flow) = self.list(list)?;
        let item = items.get(place)?;
        let edit = match (rest, flow) {
            (Rest::Entries | Rest::Text(_), false) => {
                let lines = self.delete_lines(self.dash(key, items, place)?.0, item.end);
                let Rest::Text(text) = rest else {
                    return Some(vec![lines]);
                };
                let line = self.text.get(key.end..self.line_end(key.end))?;
                let at = key.end + line.find(':')? + 1;
                let text = if text == "none" {
                    String::new()
                } else {
                    format!(" {text}")
                };
                return Some(vec![(at..at, text), lines]);
            }
            (Rest::Nothing, _) if !self.in_flow() => {
                self.column(key.start)?;
                self.delete_lines(self.line_start(key.start), value.end)
            }
            (Rest::Nothing, _) => {
                let Kind::Map { entries, .. } = &self.spec.kind else {
                    return None;
                };
                let position = entries
                    .iter()
                    .position(|(entry, _)| entry.start == key.start)?;
                // Of neighbours that go, each takes the gap on the same side.
                let after = entries.get(position + 1..).unwrap_or_default();
                let stays = |(key, _): &(Node, Node)| {
                    !self.removed.iter().any(|gone| key.text() == Some(gone))
                };
                let next = after.first().filter(|_| after.iter().any(stays));
                let next = next.map(|(key, _)| key.start);
                let before = position.checked_sub(1).and_then(|place| entries.get(place));
                self.delete_between(
                    key.start..value.end,
                    before.map(|(_, value)| value.end),
                    next,
                )?
            }
            (Rest::Entries, true) => {
                let next = items.get(place + 1).map(|item| item.start);
                let before = place.checked_sub(1).and_then(|place| items.get(place));
                self.delete_between(item.start..item.end, before.map(|item| item.end), next)?
            }
            (Rest::Text(text), true) if text == "[]" => (item.start..item.end, String::new()),
            (Rest::Text(text), true) => {
                let text = if text == "none" { "null" } else { text };
                (value.start..value.end, text.to_owned())
            }
        };
        Some(vec![edit])
    }

    /// Deletes an entry in flow style up to the next one, or from the end of the one before.
    fn delete_between(
        &self,
        entry: Range<usize>,
        before: Option<usize>,
        next: Option<usize>,
    ) -> Option<Edit> {
        let (range, gap) = match (before, next) {
            (_, Some(next)) => (entry.start..next, entry.end..next),
            (Some(before), None) => (before..entry.end, before..entry.start),
            (None, None) => return None,
        };
        // A comment there is somebody's.
        let gap = self.text.get(gap)?.trim();
        (gap == ",").then(|| (range, String::new()))
    }

    /// The key of a list, the list, its entries, and whether it is in flow style.
    fn list(&self, list: List) -> Option<(&'a Node, &'a Node, &'a [Node], bool)> {
        let (key, node) = self.spec.entry(list.field())?;
        match &node.kind {
            Kind::Seq { flow, items } => Some((key, node, items, *flow)),
            _ => None,
        }
    }

    fn in_flow(&self) -> bool {
        matches!(self.spec.kind, Kind::Map { flow: true, .. })
    }

    /// How many columns this pod's lists are indented below their keys.
    fn list_indent(&self) -> Option<usize> {
        let (key, _, items, flow) = self.list(List::Main)?;
        if flow {
            return Some(0);
        }
        self.dash(key, items, 0)?
            .1
            .checked_sub(self.column(key.start)?)
    }

    /// The column of a node that is the first of its line; `None` if something is before it.
    fn column(&self, at: usize) -> Option<usize> {
        let before = self.text.get(self.line_start(at)..at)?;
        let before = before.strip_prefix('\u{feff}').unwrap_or(before);
        before
            .bytes()
            .all(|byte| byte == b' ')
            .then_some(before.len())
    }

    fn line_start(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or_default();
        before.rfind('\n').map_or(0, |place| place + 1)
    }

    /// Behind the line break of the line in which something ends. A block scalar ends there itself.
    fn line_end(&self, at: usize) -> usize {
        if at > 0 && self.line_start(at) == at {
            return at;
        }
        let after = self.text.get(at..).unwrap_or_default();
        after
            .find('\n')
            .map_or(self.text.len(), |place| at + place + 1)
    }

    /// The start of the line with the dash of an entry, and the dash's column. The parser gives the place of
    /// what follows the dash.
    fn dash(&self, key: &Node, items: &[Node], place: usize) -> Option<(usize, usize)> {
        let before = match place.checked_sub(1) {
            Some(before) => items.get(before)?.end,
            None => key.end,
        };
        let item = items.get(place)?;
        let mut at = self.line_end(before);
        while at <= item.start {
            let line = self.text.get(at..)?;
            let entry = line.trim_start_matches(' ');
            if entry.starts_with('-') {
                return Some((at, line.len() - entry.len()));
            }
            at += line.find('\n')? + 1;
        }
        None
    }

    /// The start of the comment lines directly above a line, with the same indentation.
    fn above_comments(&self, line: usize, column: usize) -> usize {
        let mut at = line;
        while at > 0 {
            let above = self.line_start(at - 1);
            let text = self.text.get(above..at).unwrap_or_default();
            let comment = text.trim_start_matches(' ');
            if !comment.starts_with('#') || text.len() - comment.len() != column {
                break;
            }
            at = above;
        }
        at
    }

    fn lines(&self, lines: &[String], column: usize) -> String {
        let indent = " ".repeat(column);
        let lines = lines.iter();
        let parts = lines.flat_map(|line| [indent.as_str(), line, self.newline]);
        parts.collect()
    }

    /// Adds lines below the line in which something ends, and below comment lines that are indented deeper
    /// than the new lines.
    fn lines_after(&self, end: usize, lines: &[String], column: usize) -> Edit {
        let mut at = self.line_end(end);
        loop {
            let line = self.text.get(at..).unwrap_or_default();
            let comment = line.trim_start_matches(' ');
            let is_deeper = line.len() - comment.len() > column;
            if !is_deeper || !comment.starts_with('#') {
                break;
            }
            at = line
                .find('\n')
                .map_or(self.text.len(), |place| at + place + 1);
        }
        let mut added = self.lines(lines, column);
        if !self.text.get(..at).unwrap_or_default().ends_with('\n') {
            // The last line of the text has no line break: none is added to its end either.
            added.truncate(added.len() - self.newline.len());
            added.insert_str(0, self.newline);
        }
        (at..at, added)
    }

    /// Deletes whole lines. At the end of a text without a line break, the one before goes instead.
    fn delete_lines(&self, start: usize, end: usize) -> Edit {
        let end = self.line_end(end);
        let deleted = self.text.get(start..end).unwrap_or_default();
        let mut from = start;
        if !deleted.ends_with('\n') {
            let before = self.text.get(..start).unwrap_or_default();
            let kept = before.strip_suffix('\n').unwrap_or(before);
            from = kept.strip_suffix('\r').unwrap_or(kept).len();
        }
        (from..end, String::new())
    }

    /// How a new entry is laid out next to one at `at`, within `parent`.
    fn style(&self, at: usize, parent: &Node) -> Style {
        let line = self.line_start(at);
        let before = self.text.get(line..at).unwrap_or_default();
        if line == 0 || !before.bytes().all(|byte| byte == b' ' || byte == b'\t') {
            return Style::Line;
        }
        let outer = self
            .text
            .get(self.line_start(parent.start)..)
            .unwrap_or_default();
        let outer = outer.len() - outer.trim_start_matches([' ', '\t']).len();
        let step = before.get(outer..).filter(|step| !step.is_empty());
        Style::Lines {
            newline: self.newline,
            indent: before.to_owned(),
            step: step.unwrap_or("  ").to_owned(),
        }
    }
}
