//! Writes a value as YAML in a random style, as people and programs do: block and flow style, all kinds of
//! quotes and block scalars, comments, empty lines, indented lists or not.

use std::fmt::Write as _;

use serde_json::Value;

/// Random choices, from bytes of proptest.
pub(crate) struct Writer<'a> {
    choices: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    /// The columns by which lists are indented below their keys.
    lists: usize,
    /// Whether comments are written.
    comments: bool,
    out: String,
}

impl<'a> Writer<'a> {
    /// The text of a document, which ends with a line break. `choices` must not be empty.
    pub(crate) fn document(value: &Value, choices: &'a [u8]) -> String {
        let mut writer = Writer {
            choices: choices.iter().cycle(),
            lists: 0,
            comments: true,
            out: String::new(),
        };
        writer.lists = [0, 0, 2, 4][writer.choose(4)];
        writer.comments = writer.choose(3) > 0;
        writer.block(value, 0);
        writer.out
    }

    fn choose(&mut self, count: usize) -> usize {
        usize::from(*self.choices.next().unwrap()) % count
    }

    fn push(&mut self, parts: &[&str]) {
        self.out.extend(parts.iter().copied());
    }

    /// Something without a meaning, between two lines.
    fn space(&mut self, indent: usize) {
        if !self.comments {
            return;
        }
        let indent = " ".repeat(indent);
        match self.choose(16) {
            0 => self.out.push('\n'),
            1 => self.push(&[&indent, "# a: comment\n"]),
            2 => self.push(&[&indent, "# two\n", &indent, "# - lines\n"]),
            3 => self.out.push_str("# at the left\n"),
            4 => self.push(&[&indent, "  # deeper\n"]),
            _ => (),
        }
    }

    fn line_end(&mut self) {
        let comment = self.comments && self.choose(10) == 0;
        self.out
            .push_str(if comment { " # behind\n" } else { "\n" });
    }

    /// A node whose lines begin at this column. The cursor is there.
    fn block(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (number, (key, value)) in fields.iter().enumerate() {
                    if number > 0 {
                        self.space(indent);
                        self.out.push_str(&" ".repeat(indent));
                    }
                    self.key(key);
                    self.out.push(':');
                    self.below(value, indent, true);
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for (number, item) in items.iter().enumerate() {
                    if number > 0 {
                        self.space(indent);
                        self.out.push_str(&" ".repeat(indent));
                    }
                    self.out.push('-');
                    match item {
                        Value::Object(fields) if !fields.is_empty() && self.choose(8) > 0 => {
                            self.out.push(' ');
                            self.block(item, indent + 2);
                        }
                        item => self.below(item, indent, false),
                    }
                }
            }
            other => {
                self.scalar(other, indent);
                self.line_end();
            }
        }
    }

    /// What follows a key or a dash at this column.
    fn below(&mut self, value: &Value, indent: usize, key: bool) {
        let is_block = match value {
            Value::Object(fields) => !fields.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => false,
        };
        if !is_block {
            self.scalar(value, indent);
            return self.line_end();
        }
        if self.choose(7) == 0 {
            self.out.push(' ');
            let lines = (self.choose(2) == 0).then_some(indent + 2);
            self.flow(value, lines);
            return self.line_end();
        }
        self.line_end();
        let deeper = match value {
            Value::Array(_) if key => indent + self.lists,
            _ => indent + 2,
        };
        self.space(deeper);
        self.out.push_str(&" ".repeat(deeper));
        self.block(value, deeper);
    }

    fn key(&mut self, key: &str) {
        match self.choose(12) {
            0 => self.out.push_str(&Value::from(key).to_string()),
            _ if is_plain(key) => self.out.push_str(key),
            _ => self.push(&["'", key, "'"]),
        }
    }

    /// A scalar or an empty collection, with a space before it where it has a text.
    fn scalar(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Null => {
                let text = ["", " null", " ~", " Null"][self.choose(4)];
                self.out.push_str(text);
            }
            Value::String(text) => self.text(text, indent),
            Value::Object(_) => {
                let text = [" {}", " { }"][self.choose(2)];
                self.out.push_str(text);
            }
            Value::Array(_) => {
                let text = [" []", " [ ]"][self.choose(2)];
                self.out.push_str(text);
            }
            other => self.push(&[" ", &other.to_string()]),
        }
    }

    fn text(&mut self, text: &str, indent: usize) {
        self.out.push(' ');
        let lines = text.contains('\n')
            && text
                .bytes()
                .all(|byte| byte == b'\n' || (b' '..127).contains(&byte));
        let first = text.trim_start_matches('\n');
        let simple =
            !text.contains('\n') && text.chars().all(|letter| (' '..'\u{7f}').contains(&letter));
        match self.choose(4) {
            0 if lines && !first.starts_with(' ') && !first.is_empty() => {
                self.literal(text, indent + 2);
            }
            1 if simple => {
                let quoted = text.replace('\'', "''");
                let _ = write!(self.out, "'{quoted}'");
            }
            2 | 3 if is_plain(text) => self.out.push_str(text),
            _ => self.out.push_str(&Value::from(text).to_string()),
        }
    }

    /// A literal block scalar, without its last line break.
    fn literal(&mut self, text: &str, indent: usize) {
        let body = text.trim_end_matches('\n');
        let breaks = text.len() - body.len();
        self.out.push_str(match breaks {
            0 => "|-",
            1 => "|",
            _ => "|+",
        });
        for line in body.split('\n') {
            self.out.push('\n');
            if !line.is_empty() {
                let _ = write!(self.out, "{}{line}", " ".repeat(indent));
            }
        }
        self.out.push_str(&"\n".repeat(breaks.saturating_sub(1)));
        // No comment may follow in this line.
        self.out.push('\n');
        self.comment_at_the_left();
    }

    /// Takes the place of the comment behind a value.
    fn comment_at_the_left(&mut self) {
        self.out.push_str("# behind a block scalar");
    }

    /// Flow style, in one line or with one line for each entry.
    fn flow(&mut self, value: &Value, lines: Option<usize>) {
        let inner = lines.map(|indent| indent + 2);
        let (open, close) = match value {
            Value::Object(_) => ('{', '}'),
            Value::Array(_) => ('[', ']'),
            scalar => {
                self.out.push_str(&scalar.to_string());
                return;
            }
        };
        self.out.push(open);
        let entries: Vec<(Option<&String>, &Value)> = match value {
            Value::Object(fields) => fields
                .iter()
                .map(|(key, value)| (Some(key), value))
                .collect(),
            Value::Array(items) => items.iter().map(|item| (None, item)).collect(),
            _ => Vec::new(),
        };
        for (number, (key, value)) in entries.iter().enumerate() {
            if number > 0 {
                self.out.push(',');
            }
            match inner {
                Some(indent) => {
                    let _ = write!(self.out, "\n{}", " ".repeat(indent));
                }
                None if number > 0 => self.out.push(' '),
                None => (),
            }
            if let Some(key) = key {
                let _ = write!(self.out, "{}: ", Value::from(key.as_str()));
            }
            self.flow(value, inner);
        }
        if let (Some(indent), false) = (lines, entries.is_empty()) {
            let _ = write!(self.out, "\n{}", " ".repeat(indent));
        }
        self.out.push(close);
    }
}

/// Whether a text needs no quotes.
fn is_plain(text: &str) -> bool {
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
        && !words.contains(&text.to_ascii_lowercase().as_str())
}
