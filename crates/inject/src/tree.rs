//! A small document with ordered keys, and its three forms: a JSON value, block YAML and flow style.
//!
//! In: what [`crate::sidecar`] builds. Out: a [`Value`] for comparisons and for the API server, lines of YAML
//! for people, and JSON for documents in flow style. All forms come from one tree, so they have the same
//! content. Flow style is JSON, which is also valid YAML.
//!
//! Texts are written without quotes only if no version of YAML reads them as something else. Kubernetes reads
//! YAML 1.1, where `off`, `1:30` and `0x1a` are no texts.

use std::fmt::Write as _;

use serde_json::Value;

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    Text(String),
    Bool(bool),
    Number(u32),
    List(Vec<Tree>),
    Map(Vec<(&'static str, Tree)>),
}

impl Tree {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The same as a JSON value.
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Bool(value) => Value::from(*value),
            Self::Number(number) => Value::from(*number),
            Self::List(items) => items.iter().map(Self::value).collect(),
            Self::Map(entries) => entries
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.value()))
                .collect(),
        }
    }

    /// The lines of this node as an entry of a block sequence: the first one has the dash. `lists` is the
    /// number of columns by which a sequence is indented below its key.
    pub(crate) fn entry(&self, lists: usize) -> Vec<String> {
        let mut lines = self.block(lists);
        for (number, line) in lines.iter_mut().enumerate() {
            line.insert_str(0, if number == 0 { "- " } else { "  " });
        }
        lines
    }

    fn block(&self, lists: usize) -> Vec<String> {
        match self {
            Self::Map(entries) if !entries.is_empty() => entries
                .iter()
                .flat_map(|(key, value)| value.below(key, lists))
                .collect(),
            Self::List(items) if !items.is_empty() => {
                items.iter().flat_map(|item| item.entry(lists)).collect()
            }
            inline => vec![inline.scalar()],
        }
    }

    /// The lines of a key with this value.
    fn below(&self, key: &str, lists: usize) -> Vec<String> {
        let indent = match self {
            Self::Map(entries) if !entries.is_empty() => 2,
            Self::List(items) if !items.is_empty() => lists,
            inline => return vec![format!("{key}: {}", inline.scalar())],
        };
        let mut lines = vec![format!("{key}:")];
        let space = " ".repeat(indent);
        lines.extend(
            self.block(lists)
                .iter()
                .map(|line| format!("{space}{line}")),
        );
        lines
    }

    fn scalar(&self) -> String {
        match self {
            Self::Text(text) if is_plain(text) => text.clone(),
            other => other.json(&Style::Line),
        }
    }

    /// The same in flow style.
    pub(crate) fn json(&self, style: &Style) -> String {
        let mut text = String::new();
        self.write_json(&mut text, style);
        text
    }

    fn write_json(&self, out: &mut String, style: &Style) {
        match self {
            Self::Text(text) => quote(out, text),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            // Writing to a `String` cannot fail.
            Self::Number(number) => drop(write!(out, "{number}")),
            Self::List(items) => {
                style.collection(out, ('[', ']'), items, |out, item, inner| {
                    item.write_json(out, inner);
                });
            }
            Self::Map(entries) => {
                style.collection(out, ('{', '}'), entries, |out, (key, value), inner| {
                    quote(out, key);
                    out.push_str(": ");
                    value.write_json(out, inner);
                });
            }
        }
    }
}

/// How flow style is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Style {
    /// In one line.
    Line,
    /// One line for each entry.
    Lines {
        /// The line break.
        newline: &'static str,
        /// The white space before the node itself.
        indent: String,
        /// What is added to it at each level.
        step: String,
    },
}

impl Style {
    /// One level deeper.
    pub(crate) fn inner(&self) -> Self {
        match self {
            Self::Line => Self::Line,
            Self::Lines {
                newline,
                indent,
                step,
            } => Self::Lines {
                newline,
                indent: format!("{indent}{step}"),
                step: step.clone(),
            },
        }
    }

    /// What is between two entries, after the comma; also between a bracket and the first entry where it is
    /// a line break.
    pub(crate) fn gap(&self) -> String {
        match self {
            Self::Line => " ".to_owned(),
            Self::Lines {
                newline, indent, ..
            } => format!("{newline}{indent}"),
        }
    }

    fn collection<T>(
        &self,
        out: &mut String,
        (open, close): (char, char),
        entries: &[T],
        write: impl Fn(&mut String, &T, &Self),
    ) {
        out.push(open);
        let inner = self.inner();
        let lines = *self != Self::Line && !entries.is_empty();
        for (number, entry) in entries.iter().enumerate() {
            if number > 0 {
                out.push(',');
            }
            if number > 0 || lines {
                out.push_str(&inner.gap());
            }
            write(out, entry, &inner);
        }
        if lines {
            out.push_str(&self.gap());
        }
        out.push(close);
    }
}

/// Whether every version of YAML reads `text` without quotes as this text.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let starts = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    // A colon is part of the text unless white space or the end follows it.
    let colons = text.replace(':', "");
    let letters = starts && !text.ends_with(':') && !colons.is_empty() && colons.bytes().all(plain);
    (letters && !WORDS.contains(&text.to_ascii_lowercase().as_str())) || is_plain_quantity(text)
}

/// Digits and one of the units that no number of YAML ends with, such as 50m.
fn is_plain_quantity(text: &str) -> bool {
    let digits = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
    digits.len() < text.len() && matches!(digits, "m" | "Ki" | "Mi" | "Gi" | "Ti")
}

/// A text in double quotes, valid in JSON and in YAML.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // What YAML does not call printable, and its further line breaks.
            '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => drop(write!(out, "\\u{:04x}", u32::from(character))),
            printable => out.push(printable),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_some_yaml_reads_otherwise_are_quoted() {
        for text in [
            "off",
            "Yes",
            "null",
            "~",
            "",
            "1",
            "1e3",
            "0x1a",
            "1:30",
            "12E",
            "a: b",
            "a:",
            "-a",
            ".5",
            "a b",
            "*a",
            "&a",
            "20%",
            "2001-01-01",
            "=",
            "<<",
            "NULL",
            ".inf",
            "1_0",
            "N",
        ] {
            assert!(!is_plain(text), "{text}");
        }
        for text in [
            "sensor",
            "a/b:1.0",
            "50m",
            "256Mi",
            "spec.nodeName",
            "RuntimeDefault",
        ] {
            assert!(is_plain(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_form_of_a_text_is_read_as_this_text(text in "(\\PC|[\u{0}-\u{a0}\u{2028}\u{feff}]){0,12}") {
            let tree = Tree::Map(vec![("a", Tree::text(&text))]);
            let block = tree.block(0).concat();
            let read: Value = serde_saphyr::from_str(&block).unwrap();
            prop_assert_eq!(read, tree.value(), "{}", block);
            for style in [Style::Line, Style::Lines { newline: "\n", indent: String::new(), step: "\t".to_owned() }] {
                let json = tree.json(&style);
                prop_assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), tree.value());
                let read: Value = serde_saphyr::from_str(&json).unwrap();
                prop_assert_eq!(read, tree.value());
            }
        }
    }
}
