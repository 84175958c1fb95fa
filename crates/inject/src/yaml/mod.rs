//! Injection into a stream of YAML or JSON: text in, text out.
//!
//! In: the bytes of a stream of documents. Out: the same bytes with podspan's containers, or every reason why
//! not; then nothing is changed. Comments, order, quoting and indentation of everything else stay.
//!
//! 1. `node` parses the text into nodes with positions, `value` makes of them what Kubernetes reads;
//! 2. `kinds` finds the templates of pods;
//! 3. `crate::pod` plans what changes, `edit` makes edits of text of the plan;
//! 4. the result is checked before it is returned: it is parsed again and must have exactly the planned
//!    values, and removal must return the input byte for byte. A text that this does not hold for is refused.

mod edit;
mod error;
mod kinds;
mod node;
mod value;

use serde_json::Value;

pub use error::{Broken, Error, Refusal, Why};

use crate::Options;
use crate::pod;
use crate::step::{self, List, Step};
use edit::Edit;
use kinds::{Place, Workload};
use node::{Document, Kind, Node};

/// A changed stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The whole stream.
    pub text: String,
    /// What happened to each object, in the order of the stream.
    pub objects: Vec<Object>,
}

/// An object of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The number of the document, from 1.
    pub document: usize,
    /// The kind; empty if it has none.
    pub kind: String,
    /// The name; empty if it has none.
    pub name: String,
    /// The line, from 1.
    pub line: usize,
    /// What happened to it.
    pub change: Change,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It has podspan's container now.
    Injected,
    /// Its container of podspan is up to date now.
    Updated,
    /// Podspan's container is removed.
    Removed,
    /// There was nothing to change.
    Unchanged,
    /// It has no template of a pod.
    NotAWorkload,
}

/// Adds podspan's sidecar to all pods of a stream.
///
/// # Errors
/// When the text is not valid, or podspan cannot be injected into an object; all of these are in the error.
pub fn inject(input: &[u8], options: &Options<'_>) -> Result<Output, Error> {
    run(input, Some(options))
}

/// Removes podspan's sidecar from all pods of a stream.
///
/// # Errors
/// As [`inject`].
pub fn remove(input: &[u8]) -> Result<Output, Error> {
    run(input, None)
}

/// The values of all documents of a stream, as Kubernetes reads them.
///
/// # Errors
/// When the text is not valid, or a value is not one of Kubernetes; all of these are in the error.
pub fn values(input: &[u8]) -> Result<Vec<Value>, Error> {
    let (_, documents) = parse(input)?;
    let (mut values, mut refusals) = (Vec::new(), Vec::new());
    for (number, document) in (1..).zip(&documents) {
        match value::value(&document.root) {
            Ok(value) => values.push(value),
            Err(why) => refusals.push(Refusal {
                document: number,
                kind: String::new(),
                name: String::new(),
                line: document.root.line,
                why,
            }),
        }
    }
    if refusals.is_empty() {
        return Ok(values);
    }
    Err(Error::Objects(refusals))
}

fn parse(input: &[u8]) -> Result<(&str, Vec<Document>), Error> {
    let text = std::str::from_utf8(input).map_err(|error| Error::NotUtf8(error.valid_up_to()))?;
    let documents = node::documents(text).map_err(|broken| with_hint(text, broken))?;
    Ok((text, documents))
}

/// With options injection, without them removal.
fn run(input: &[u8], options: Option<&Options<'_>>) -> Result<Output, Error> {
    let (text, documents) = parse(input)?;
    let mut stream = Stream {
        text,
        options,
        edits: Vec::new(),
        objects: Vec::new(),
        refusals: Vec::new(),
        expected: Vec::new(),
    };
    for (number, document) in (1..).zip(&documents) {
        stream.document(number, document);
    }
    stream.finish()
}

/// An error near a template of helm is most likely caused by it.
fn with_hint(text: &str, broken: Broken) -> Broken {
    let near = text.lines().skip(broken.line.saturating_sub(3)).take(5);
    let template = broken.template || near.into_iter().any(|line| line.contains("{{"));
    Broken { template, ..broken }
}

struct Stream<'a, 'b> {
    text: &'a str,
    options: Option<&'b Options<'b>>,
    edits: Vec<Edit>,
    objects: Vec<Object>,
    refusals: Vec<Refusal>,
    /// The value that each document with workloads must have in the end.
    expected: Vec<Option<Value>>,
}

impl Stream<'_, '_> {
    fn document(&mut self, number: usize, document: &Document) {
        let root = &document.root;
        let get = |node, key| document.get(node, key);
        let text_of = |key| get(root, key).and_then(Node::text).unwrap_or_default();
        let (version, kind) = (text_of("apiVersion"), text_of("kind"));
        let name = get(root, "metadata").and_then(|metadata| get(metadata, "name"));
        let whole = Object {
            document: number,
            kind: kind.to_owned(),
            name: name.and_then(Node::text).unwrap_or_default().to_owned(),
            line: root.line,
            change: Change::NotAWorkload,
        };
        if !kinds::is_workload(version, kind) {
            self.expected.push(None);
            self.objects.push(whole);
            return;
        }
        let value = match value::value(root) {
            Ok(value) => value,
            Err(why) => {
                let (kind, name, line) = (whole.kind, whole.name, whole.line);
                self.refusals.push(Refusal {
                    document: number,
                    kind,
                    name,
                    line,
                    why,
                });
                self.expected.push(None);
                return;
            }
        };
        let mut expected = value.clone();
        for workload in kinds::workloads(&value) {
            let mut object = Object {
                document: number,
                kind: workload.kind.clone(),
                name: workload.name.clone(),
                line: follow(document, &workload.object).map_or(root.line, |node| node.line),
                change: Change::Unchanged,
            };
            match self.workload(document, &workload, &mut expected) {
                Ok(change) => {
                    object.change = change;
                    self.objects.push(object);
                }
                Err(why) => self.refusals.push(Refusal {
                    document: number,
                    kind: object.kind,
                    name: object.name,
                    line: object.line,
                    why,
                }),
            }
        }
        self.expected.push(Some(expected));
    }

    fn workload(
        &mut self,
        document: &Document,
        workload: &Workload<'_>,
        expected: &mut Value,
    ) -> Result<Change, Why> {
        if let Some(why) = self
            .options
            .and_then(|options| workload.misplaced(options.settings))
        {
            return Err(why);
        }
        let Some(template) = workload.template()? else {
            return Ok(Change::NotAWorkload);
        };
        let place = workload.place();
        let mut spec = place.clone();
        spec.push(Place::Key("spec"));
        let spec = follow(document, &spec);
        let steps = match self.options {
            Some(options) => {
                let spec = spec.as_ref().ok();
                let text = |list: List| {
                    let list = spec.and_then(|spec| spec.get(list.field()));
                    list.and_then(|list| self.text_of_nothing(list))
                };
                pod::plan_inject(template, options, &text)?
            }
            None => pod::plan_remove(template)?,
        };
        if steps.is_empty() {
            return Ok(Change::Unchanged);
        }
        let spec = spec?;
        check_lists(document, spec, &template["spec"], &steps)?;
        let edits = edit::edits(self.text, spec, &steps).ok_or(Why::Layout)?;
        self.edits.extend(edits);
        if let Some(target) = target(expected, &place) {
            *target = step::applied(template, &steps);
        }
        let is_update = |step: &Step| matches!(step, Step::Replace(..) | Step::Remove(..));
        let is_new = steps.iter().any(Step::is_new_container) && !steps.iter().any(is_update);
        Ok(match self.options {
            None => Change::Removed,
            Some(_) if is_new => Change::Injected,
            Some(_) => Change::Updated,
        })
    }

    /// The text of an `initContainers` without entries.
    fn text_of_nothing(&self, list: &Node) -> Option<&str> {
        match &list.kind {
            Kind::Scalar { .. } if list.start == list.end => Some("none"),
            Kind::Scalar { .. } => self.text.get(list.start..list.end),
            _ => None,
        }
    }

    fn finish(self) -> Result<Output, Error> {
        if !self.refusals.is_empty() {
            return Err(Error::Objects(self.refusals));
        }
        let text = edit::apply(self.text, self.edits.clone());
        match text.filter(|text| self.is_right(text)) {
            Some(text) => Ok(Output {
                text,
                objects: self.objects,
            }),
            None => Err(self.layout()),
        }
    }

    /// Whether the text has exactly the planned values, and can be changed back.
    fn is_right(&self, output: &str) -> bool {
        if output == self.text {
            return true;
        }
        let Ok(documents) = node::documents(output) else {
            return false;
        };
        let same = documents.len() == self.expected.len()
            && documents
                .iter()
                .zip(&self.expected)
                .all(|(document, expected)| {
                    let Some(expected) = expected else {
                        return true;
                    };
                    value::value(&document.root).is_ok_and(|value| value == *expected)
                });
        let only_new = self
            .objects
            .iter()
            .all(|object| matches!(object.change, Change::Injected | Change::NotAWorkload));
        let back = || remove(output.as_bytes()).is_ok_and(|removed| removed.text == self.text);
        same && (self.options.is_none() || !only_new || back())
    }

    fn layout(&self) -> Error {
        let changed =
            |object: &&Object| !matches!(object.change, Change::Unchanged | Change::NotAWorkload);
        let refusal = |object: &Object| Refusal {
            document: object.document,
            kind: object.kind.clone(),
            name: object.name.clone(),
            line: object.line,
            why: Why::Layout,
        };
        Error::Objects(self.objects.iter().filter(changed).map(refusal).collect())
    }
}

/// The node at a place, if a change there has an effect nowhere else.
fn follow<'a>(document: &'a Document, place: &[Place]) -> Result<&'a Node, Why> {
    let mut node = own(document, &document.root)?;
    for step in place {
        let next = match (step, &node.kind) {
            (Place::Key(key), _) => node.get(key),
            (Place::Index(index), Kind::Seq { items, .. }) => items.get(*index),
            _ => None,
        };
        // The value has this place, so a merge key has brought it.
        node = own(document, next.ok_or(Why::Shared { line: node.line })?)?;
    }
    Ok(node)
}

/// A node that is no alias and that no alias refers to.
fn own<'a>(document: &Document, node: &'a Node) -> Result<&'a Node, Why> {
    let shared = matches!(node.kind, Kind::Alias(_)) || document.referenced.contains(&node.anchor);
    if shared {
        return Err(Why::Shared { line: node.line });
    }
    Ok(node)
}

/// The lists that change must be the pod's own, and both must have their keys there.
fn check_lists(document: &Document, spec: &Node, value: &Value, steps: &[Step]) -> Result<(), Why> {
    for list in [List::Init, List::Main, List::Volumes] {
        let field = list.field();
        let changes = steps.iter().any(|step| step.list() == list);
        match spec.get(field) {
            Some(node) if changes => {
                own(document, node)?;
            }
            None if list == List::Volumes && !changes => (),
            None if value.get(field).is_some() => return Err(Why::Shared { line: spec.line }),
            _ => (),
        }
    }
    Ok(())
}

fn target<'a>(value: &'a mut Value, place: &[Place]) -> Option<&'a mut Value> {
    place.iter().try_fold(value, |value, step| match step {
        Place::Key(key) => value.get_mut(key),
        Place::Index(index) => value.get_mut(index),
    })
}
