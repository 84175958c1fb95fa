//! A node as the JSON value that Kubernetes makes of it.
//!
//! In: a [`Node`]. Out: a [`Value`], with aliases and merge keys replaced by what they refer to. kubectl reads
//! YAML 1.1, so `yes` and `on` are booleans and `010` is eight. The number of nodes is limited, because
//! aliases of aliases grow without bounds.

use std::collections::HashMap;

use serde_json::{Map, Number, Value};

use super::error::Why;
use super::node::{Kind, Node};

/// No object of Kubernetes has as many nodes: the API server accepts 3 MB.
const MAX_NODES: usize = 1_000_000;

/// The parser's own limit is lower; aliases can nest deeper.
const MAX_DEPTH: usize = 600;

/// The value of a whole document, or of a node of it with the anchors of the document.
pub(crate) fn value(root: &Node) -> Result<Value, Why> {
    let mut converter = Converter {
        anchors: HashMap::new(),
        nodes: 0,
        depth: 0,
    };
    converter.collect(root);
    converter.value(root)
}

struct Converter<'a> {
    anchors: HashMap<usize, &'a Node>,
    nodes: usize,
    depth: usize,
}

impl<'a> Converter<'a> {
    fn collect(&mut self, node: &'a Node) {
        if node.anchor != 0 {
            self.anchors.insert(node.anchor, node);
        }
        match &node.kind {
            Kind::Seq { items, .. } => items.iter().for_each(|item| self.collect(item)),
            Kind::Map { entries, .. } => entries.iter().for_each(|(key, value)| {
                self.collect(key);
                self.collect(value);
            }),
            Kind::Scalar { .. } | Kind::Alias(_) => (),
        }
    }

    fn value(&mut self, node: &'a Node) -> Result<Value, Why> {
        self.nodes += 1;
        if self.nodes > MAX_NODES || self.depth > MAX_DEPTH {
            return Err(wrong(node, "it has too many nodes"));
        }
        self.depth += 1;
        let value = self.value_of(node);
        self.depth -= 1;
        value
    }

    fn value_of(&mut self, node: &'a Node) -> Result<Value, Why> {
        match &node.kind {
            Kind::Scalar { text, plain } => scalar(node, text, *plain),
            Kind::Alias(target) => {
                let target = self.target(node, *target)?;
                self.value(target)
            }
            Kind::Seq { items, .. } => {
                let items: Result<Vec<_>, _> = items.iter().map(|item| self.value(item)).collect();
                Ok(Value::Array(items?))
            }
            Kind::Map { entries, .. } => self.mapping(entries),
        }
    }

    /// What an alias refers to. A node within the anchored node itself would never end.
    fn target(&self, alias: &Node, number: usize) -> Result<&'a Node, Why> {
        let target = self.anchors.get(&number).copied();
        match target {
            Some(target) if !(target.start <= alias.start && alias.end <= target.end) => Ok(target),
            _ => Err(wrong(alias, "the alias refers to itself or to nothing")),
        }
    }

    fn mapping(&mut self, entries: &'a [(Node, Node)]) -> Result<Value, Why> {
        let mut fields = Map::new();
        for (key, value) in entries {
            if key.is_merge() {
                continue;
            }
            let name = self.key(key)?;
            let value = self.value(value)?;
            if fields.insert(name.clone(), value).is_some() {
                let name = crate::refused::Name(&name).to_string();
                return Err(wrong(key, &format!("the key {name} is there twice")));
            }
        }
        for (_, merged) in entries.iter().filter(|(key, _)| key.is_merge()) {
            let sources = match self.value(merged)? {
                Value::Array(sources) => sources,
                source => vec![source],
            };
            for source in sources {
                let Value::Object(source) = source else {
                    return Err(wrong(merged, "a merge key needs a mapping"));
                };
                for (name, value) in source {
                    fields.entry(name).or_insert(value);
                }
            }
        }
        Ok(Value::Object(fields))
    }

    fn key(&mut self, key: &'a Node) -> Result<String, Why> {
        match self.value(key)? {
            Value::String(text) => Ok(text),
            Value::Bool(value) => Ok(value.to_string()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                Err(wrong(key, "a key is not a text"))
            }
        }
    }
}

fn wrong(node: &Node, what: &str) -> Why {
    Why::Value {
        line: node.line,
        what: what.to_owned(),
    }
}

fn scalar(node: &Node, text: &str, plain: bool) -> Result<Value, Why> {
    match node.tag.as_deref() {
        None if plain => Ok(plain_value(text)),
        None | Some("!" | "tag:yaml.org,2002:str") => Ok(Value::from(text)),
        Some(
            "tag:yaml.org,2002:int"
            | "tag:yaml.org,2002:float"
            | "tag:yaml.org,2002:bool"
            | "tag:yaml.org,2002:null",
        ) => Ok(plain_value(text)),
        Some(tag) => {
            let tag = crate::refused::Name(tag).to_string();
            Err(wrong(node, &format!("the tag {tag} is unknown")))
        }
    }
}

/// What a text without quotes and tag is.
fn plain_value(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => (),
    }
    number(text).map_or_else(|| Value::from(text), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    let negative = text.starts_with('-');
    let digits = digits.replace('_', "");
    let radix = |prefix: &str, radix: u32| {
        let digits = digits.strip_prefix(prefix)?;
        let sign = if negative { "-" } else { "" };
        i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
    };
    let octal = || {
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| radix("0", 8))?
    };
    let prefixed = radix("0x", 16)
        .or_else(|| radix("0b", 2))
        .or_else(|| radix("0o", 8));
    if let Some(value) = prefixed.or_else(octal) {
        return Some(value.into());
    }
    let sign = if negative { "-" } else { "" };
    let decimal = format!("{sign}{digits}");
    if let Ok(value) = decimal.parse::<i64>() {
        return Some(value.into());
    }
    if let Ok(value) = decimal.parse::<u64>() {
        return Some(value.into());
    }
    let floating = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    let float: f64 = decimal
        .bytes()
        .all(floating)
        .then(|| decimal.parse().ok())??;
    Number::from_f64(float)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_texts_have_the_types_that_kubectl_gives_them() {
        for (text, expected) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("yes", json!(true)),
            ("off", json!(false)),
            ("nobody", json!("nobody")),
            ("8080", json!(8080)),
            ("-1", json!(-1)),
            ("010", json!(8)),
            ("0x1F", json!(31)),
            ("0b11", json!(3)),
            ("1_000", json!(1000)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            (
                "18446744073709551615",
                json!(18_446_744_073_709_551_615_u64),
            ),
            ("1.2.3", json!("1.2.3")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("250m", json!("250m")),
            ("2001-01-01", json!("2001-01-01")),
            ("-", json!("-")),
            ("e", json!("e")),
            (".", json!(".")),
        ] {
            assert_eq!(plain_value(text), expected, "{text}");
        }
    }
}
