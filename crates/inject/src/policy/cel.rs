//! Texts and objects of CEL, the language of admission policies.
//!
//! In: texts, and the tree that [`crate::sidecar`] builds. Out: literals of CEL. A literal never ends inside its
//! own text, whatever the text is (`a_literal_is_one_text`).

use std::fmt::Write as _;

use crate::tree::Tree;

/// A text as a literal.
pub(super) fn text(text: &str) -> String {
    let mut literal = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => literal.push_str("\\\""),
            '\\' => literal.push_str("\\\\"),
            // Writing to a `String` cannot fail.
            control if control.is_control() => {
                let _ = write!(literal, "\\U{:08x}", u32::from(control));
            }
            other => literal.push(other),
        }
    }
    literal.push('"');
    literal
}

/// Texts as a list, some in each line.
pub(super) fn texts<'a>(entries: impl IntoIterator<Item = &'a str>) -> String {
    let mut lines = vec![String::new()];
    for entry in entries {
        let entry = format!("{}, ", text(entry));
        match lines.last_mut() {
            Some(line) if line.len() + entry.len() <= 90 => line.push_str(&entry),
            _ => lines.push(entry),
        }
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    let list = lines.join("\n  ");
    let list = list.trim_end_matches(',').trim_start_matches('\n').trim();
    if list.contains('\n') {
        format!("[\n  {list}\n]")
    } else {
        format!("[{list}]")
    }
}

/// A value that is shown to people: in quotes, with escapes, shortened, and with ? for control characters. The API
/// server gives no warning that has one.
pub(super) fn shown(value: &str) -> String {
    format!(
        "strings.quote(\n    \
         (size({value}) > 60 ? {value}.substring(0, 60) + \"...\" : {value})\n    \
         .findAll(\"(?s).\").map(c, c.matches(\"\\\\pC\") ? \"?\" : c).join(\"\"))"
    )
}

/// A tree as an object of the API at `path`, such as `spec.initContainers`. `fill` gets the path of each node
/// below it, such as `env[].value`, and its literal; it returns what stands there.
pub(super) fn object(tree: &Tree, path: &str, fill: &dyn Fn(&str, String) -> String) -> String {
    node(tree, path, path, fill)
}

/// Fields that are maps of the API, which are written like maps and not like objects.
const MAPS: [&str; 2] = ["resources.requests", "resources.limits"];

fn node(tree: &Tree, root: &str, path: &str, fill: &dyn Fn(&str, String) -> String) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    let below = below.strip_prefix('.').unwrap_or(below);
    let literal = match tree {
        Tree::Text(value) => text(value),
        Tree::Bool(value) => value.to_string(),
        Tree::Number(number) => number.to_string(),
        Tree::List(items) => {
            let path = format!("{path}[]");
            let items = items.iter().map(|item| node(item, root, &path, fill));
            list(&items.collect::<Vec<_>>())
        }
        Tree::Map(entries) => {
            let is_map = MAPS.contains(&below);
            let entries = entries.iter().map(|(key, value)| {
                let value = node(value, root, &format!("{path}.{key}"), fill);
                let key = if is_map { text(key) } else { (*key).to_owned() };
                format!("{key}: {value}")
            });
            let entries: Vec<String> = entries.collect();
            let name = if is_map {
                String::new()
            } else {
                // The type of an entry has the name of its list.
                format!("Object.{}", path.replace("[]", ""))
            };
            brackets(&name, ('{', '}'), &entries)
        }
    };
    fill(below, literal)
}

fn list(items: &[String]) -> String {
    brackets("", ('[', ']'), items)
}

/// In one line if it is short.
fn brackets(name: &str, (open, close): (char, char), items: &[String]) -> String {
    let line = format!("{name}{open}{}{close}", items.join(", "));
    if line.len() <= 80 && !line.contains('\n') {
        return line;
    }
    let items: Vec<String> = items.iter().map(|item| indented(item, 2)).collect();
    format!("{name}{open}\n{}\n{close}", items.join(",\n"))
}

/// Each line behind so many spaces.
pub(super) fn indented(text: &str, spaces: usize) -> String {
    let space = " ".repeat(spaces);
    let lines = text.lines().map(|line| {
        if line.is_empty() {
            String::new()
        } else {
            format!("{space}{line}")
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_list_has_several_lines() {
        assert_eq!(texts(["a", "b"]), r#"["a", "b"]"#);
        assert_eq!(texts([]), "[]");
        let names: Vec<String> = (0..30).map(|number| format!("name-{number}")).collect();
        let list = texts(names.iter().map(String::as_str));
        assert!(
            list.lines().count() > 3 && list.lines().all(|line| line.len() < 100),
            "{list}"
        );
        assert_eq!(list.matches("name-").count(), 30);
        assert!(list.ends_with("\"\n]"), "{list}");
    }

    proptest! {
        #[test]
        fn a_literal_is_one_text(value in "(\\PC|[\"\\\\\n\r\u{0}-\u{a0}\u{2028}]){0,12}") {
            let literal = text(&value);
            let inner = literal.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            let mut characters = inner.chars();
            let mut read = String::new();
            while let Some(character) = characters.next() {
                read.push(match character {
                    '\\' => match characters.next() {
                        Some('U') => {
                            let digits: String = characters.by_ref().take(8).collect();
                            char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap()
                        }
                        other => other.unwrap(),
                    },
                    '"' => return Err(TestCaseError::fail("the text ends early")),
                    other => other,
                });
            }
            prop_assert_eq!(read, value);
        }
    }
}
