//! YAML as nodes with their places in the text.
//!
//! In: the text of a stream. Out: its [`Document`]s, each a tree of [`Node`]s with byte positions, or the line
//! of the error. Aliases stay aliases here: an edit must not land in one. The parser limits the depth, so the
//! recursion here is limited too.

use std::collections::HashSet;

use granit_parser::{Event, Parser, ScanError, Span, StrInput, StructureStyle};

use super::error::Broken;

/// One document of a stream.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) root: Node,
    /// The anchors that an alias of this document refers to.
    pub(crate) referenced: HashSet<usize>,
}

impl Document {
    /// The value of an entry of a mapping, also where an alias or a merge key has it.
    pub(crate) fn get<'a>(&'a self, node: &'a Node, key: &str) -> Option<&'a Node> {
        self.get_within(node, key, &mut HashSet::new())
    }

    /// Each anchor is searched once, so merge keys of merge keys cost no more than the text is long.
    fn get_within<'a>(
        &'a self,
        node: &'a Node,
        key: &str,
        seen: &mut HashSet<usize>,
    ) -> Option<&'a Node> {
        match &node.kind {
            Kind::Alias(anchor) if seen.insert(*anchor) => {
                self.get_within(self.resolved(node)?, key, seen)
            }
            // The value of a merge key may be a list of mappings.
            Kind::Seq { items, .. } => {
                let mut items = items.iter();
                items.find_map(|item| self.get_within(item, key, seen))
            }
            Kind::Map { entries, .. } => match node.get(key) {
                Some(value) => self.resolved(value),
                None => entries
                    .iter()
                    .filter(|(name, _)| name.is_merge())
                    .find_map(|(_, merged)| self.get_within(merged, key, seen)),
            },
            Kind::Alias(_) | Kind::Scalar { .. } => None,
        }
    }

    /// What an alias refers to, which is no alias; another node itself.
    fn resolved<'a>(&'a self, node: &'a Node) -> Option<&'a Node> {
        match node.kind {
            Kind::Alias(anchor) => self.root.anchored(anchor),
            _ => Some(node),
        }
    }
}

/// A node and where its text is.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Of its first byte; of a block sequence something between the first dash and the first entry.
    pub(crate) start: usize,
    /// Behind its last byte, without white space and comments that follow.
    pub(crate) end: usize,
    /// The line of its first byte, from 1.
    pub(crate) line: usize,
    /// The number of its anchor; 0 without one.
    pub(crate) anchor: usize,
    /// The tag, with `tag:yaml.org,2002:` in front of the core types.
    pub(crate) tag: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Scalar {
        text: String,
        plain: bool,
    },
    Seq {
        flow: bool,
        items: Vec<Node>,
    },
    Map {
        flow: bool,
        entries: Vec<(Node, Node)>,
    },
    Alias(usize),
}

impl Node {
    /// Whether this is a merge key.
    pub(crate) fn is_merge(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if text == "<<")
    }

    /// The node within this one that has an anchor.
    fn anchored(&self, anchor: usize) -> Option<&Self> {
        if self.anchor == anchor {
            return Some(self);
        }
        match &self.kind {
            Kind::Seq { items, .. } => items.iter().find_map(|item| item.anchored(anchor)),
            Kind::Map { entries, .. } => entries
                .iter()
                .find_map(|(key, value)| key.anchored(anchor).or_else(|| value.anchored(anchor))),
            Kind::Scalar { .. } | Kind::Alias(_) => None,
        }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Key and value of an entry of a mapping.
    pub(crate) fn entry(&self, key: &str) -> Option<(&Node, &Node)> {
        let Kind::Map { entries, .. } = &self.kind else {
            return None;
        };
        entries
            .iter()
            .find(|(name, _)| name.text() == Some(key))
            .map(|(name, value)| (name, value))
    }

    /// The value of an entry of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }
}

/// Reads all documents.
pub(crate) fn documents(text: &str) -> Result<Vec<Document>, Broken> {
    let options = granit_parser::options! {
        // As the YAML of Kubernetes reads it: the last line has no line break of its own.
        block_scalar_eof_without_line_feed: true,
        emit_comments: false,
    };
    let mut reader = Reader {
        events: Parser::new_from_str_with_options(text, options),
        text,
        referenced: HashSet::new(),
        document: 0,
    };
    let mut documents = Vec::new();
    while let Some((event, _)) = reader.next()? {
        match event {
            Event::DocumentStart(..) => {
                reader.document += 1;
                let root = reader.node()?;
                let referenced = std::mem::take(&mut reader.referenced);
                documents.push(Document { root, referenced });
            }
            Event::StreamEnd => break,
            _ => (),
        }
    }
    Ok(documents)
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    text: &'a str,
    referenced: HashSet<usize>,
    /// The number of the document, from 1.
    document: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Broken> {
        match self.events.next_event() {
            None => Ok(None),
            Some(Ok(next)) => Ok(Some(next)),
            Some(Err(error)) => Err(self.broken(&error)),
        }
    }

    fn broken(&self, error: &ScanError) -> Broken {
        Broken {
            document: self.document.max(1),
            line: error.marker().line(),
            column: error.marker().col() + 1,
            why: error.info(),
            template: false,
        }
    }

    fn node(&mut self) -> Result<Node, Broken> {
        match self.next()? {
            Some((event, span)) => self.node_of(event, span),
            None => Err(self.unexpected(1)),
        }
    }

    fn node_of(&mut self, event: Event<'a>, span: Span) -> Result<Node, Broken> {
        let Some(range) = span.byte_range() else {
            return Err(self.unexpected(span.start.line()));
        };
        let mut node = Node {
            kind: Kind::Alias(0),
            start: range.start,
            end: range.end,
            line: span.start.line(),
            anchor: event.anchor_id().unwrap_or_default(),
            tag: event
                .tag()
                .map(|tag| format!("{}{}", tag.handle(), tag.suffix())),
        };
        match event {
            Event::Alias(target) => {
                self.referenced.insert(target);
                node.kind = Kind::Alias(target);
            }
            Event::Scalar(text, style, ..) => {
                use granit_parser::ScalarStyle::{Folded, Literal, Plain};
                if matches!(style, Literal | Folded) {
                    node.end = self.block_end(range.end);
                }
                node.kind = Kind::Scalar {
                    text: text.into_owned(),
                    plain: style == Plain,
                };
            }
            Event::SequenceStart(style, ..) => {
                let flow = style == StructureStyle::Flow;
                let mut items: Vec<Node> = Vec::new();
                loop {
                    match self.next()? {
                        Some((Event::SequenceEnd, span)) => {
                            let last = items.last().map(|item| item.end);
                            node.end = self.collection_end(flow, last, &span, node.start);
                            break;
                        }
                        Some((event, span)) => items.push(self.node_of(event, span)?),
                        None => return Err(self.unexpected(node.line)),
                    }
                }
                node.kind = Kind::Seq { flow, items };
            }
            Event::MappingStart(style, ..) => {
                let flow = style == StructureStyle::Flow;
                let mut entries: Vec<(Node, Node)> = Vec::new();
                loop {
                    match self.next()? {
                        Some((Event::MappingEnd, span)) => {
                            let last = entries.last().map(|(key, value)| key.end.max(value.end));
                            node.end = self.collection_end(flow, last, &span, node.start);
                            break;
                        }
                        Some((event, span)) => {
                            let key = self.node_of(event, span)?;
                            let mut value = self.node()?;
                            if is_nothing(&value) {
                                // The parser may place it behind comments and line breaks.
                                value.start = key.end;
                                value.end = key.end;
                                value.line = key.line;
                            }
                            self.reject_template(flow, &key, node.start)?;
                            entries.push((key, value));
                        }
                        None => return Err(self.unexpected(node.line)),
                    }
                }
                node.kind = Kind::Map { flow, entries };
            }
            _ => return Err(self.unexpected(node.line)),
        }
        Ok(node)
    }

    /// The parser has read the indentation of what follows a block scalar.
    fn block_end(&self, end: usize) -> usize {
        let before = self.text.get(..end).unwrap_or_default();
        let trimmed = before.trim_end_matches(' ');
        if trimmed.ends_with(['\n', '\r']) {
            trimmed.len()
        } else {
            end
        }
    }

    /// A block collection ends where its last node does; a flow collection has a bracket.
    fn collection_end(&self, flow: bool, last: Option<usize>, span: &Span, start: usize) -> usize {
        let bracket = span.byte_range().map(|range| range.end);
        match (flow, last) {
            (true, _) => bracket.unwrap_or(self.text.len()),
            (false, Some(last)) => last,
            (false, None) => start,
        }
    }

    /// `{{ .Values.x }}` is valid YAML: a mapping with a mapping as its key.
    fn reject_template(&self, flow: bool, key: &Node, start: usize) -> Result<(), Broken> {
        let doubled = self
            .text
            .get(start..)
            .is_some_and(|text| text.starts_with("{{"));
        if flow && doubled && matches!(key.kind, Kind::Map { .. }) {
            return Err(Broken {
                template: true,
                why: "a mapping is the key of a mapping".to_owned(),
                ..self.unexpected(key.line)
            });
        }
        Ok(())
    }

    fn unexpected(&self, line: usize) -> Broken {
        Broken {
            document: self.document.max(1),
            line,
            column: 1,
            why: "unexpected end or structure".to_owned(),
            template: false,
        }
    }
}

fn is_nothing(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar { text, plain: true } if text.is_empty())
        && node.anchor == 0
        && node.tag.is_none()
}
