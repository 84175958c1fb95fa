//! The steps of a plan.
//!
//! In: a pod's template and steps. Out: the template after them. A step changes one list of the pod's spec, so
//! the places in it are those of the template before.

use serde_json::{Map, Value, json};

use crate::tree::Tree;

/// A list of the pod's spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    Init,
    Main,
    Volumes,
}

impl List {
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Init => "initContainers",
            Self::Main => "containers",
            Self::Volumes => "volumes",
        }
    }
}

/// One change. All steps of a plan are about different lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Adds a list with this one entry.
    AddList(List, Tree),
    /// Gives a list, which is there without an entry, this one.
    FillList(List, Tree),
    /// Adds the first entry to `initContainers`.
    InsertFirst(Tree),
    /// Adds the last entry.
    Append(List, Tree),
    /// Replaces an entry.
    Replace(List, usize, Tree),
    /// Removes an entry.
    Remove(List, usize, Rest),
}

impl Step {
    /// The list that changes.
    pub(crate) fn list(&self) -> List {
        match self {
            Self::InsertFirst(_) => List::Init,
            Self::AddList(list, _)
            | Self::FillList(list, _)
            | Self::Append(list, _)
            | Self::Replace(list, ..)
            | Self::Remove(list, ..) => *list,
        }
    }

    /// Whether it adds podspan's container.
    pub(crate) fn is_new_container(&self) -> bool {
        let is_new = !matches!(self, Self::Replace(..) | Self::Remove(..));
        is_new && self.list() != List::Volumes
    }
}

/// What is left of the list after a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rest {
    /// The other entries.
    Entries,
    /// Nothing: the field is removed.
    Nothing,
    /// This text, which stood there before, such as `[]`.
    Text(String),
}

/// What is left of a list when one of its entries goes.
pub(crate) fn rest(list: &Value, restore: Option<&str>) -> Rest {
    match (list.as_array().map(Vec::len), restore) {
        (Some(1), None) => Rest::Nothing,
        (Some(1), Some(text)) => Rest::Text(text.to_owned()),
        _ => Rest::Entries,
    }
}

/// Applies a plan to a value.
pub(crate) fn applied(template: &Value, steps: &[Step]) -> Value {
    let mut template = template.clone();
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
        for step in steps {
            apply(spec, step);
        }
    }
    template
}

fn apply(spec: &mut Map<String, Value>, step: &Step) {
    match step {
        Step::AddList(list, tree) | Step::FillList(list, tree) => {
            spec.insert(list.field().to_owned(), json!([tree.value()]));
        }
        Step::InsertFirst(tree) => {
            if let Some(entries) = entries_of(spec, List::Init) {
                entries.insert(0, tree.value());
            }
        }
        Step::Append(list, tree) => {
            if let Some(entries) = entries_of(spec, *list) {
                entries.push(tree.value());
            }
        }
        Step::Replace(list, place, tree) => {
            if let Some(entry) = entries_of(spec, *list).and_then(|entries| entries.get_mut(*place))
            {
                *entry = tree.value();
            }
        }
        Step::Remove(list, place, Rest::Entries) => {
            if let Some(entries) = entries_of(spec, *list).filter(|entries| *place < entries.len())
            {
                entries.remove(*place);
            }
        }
        Step::Remove(list, _, Rest::Nothing) => {
            spec.remove(list.field());
        }
        Step::Remove(list, _, Rest::Text(text)) => {
            spec.insert(list.field().to_owned(), rest_value(text));
        }
    }
}

/// The value of a list without entries, which stood as this text in the input.
pub(crate) fn rest_value(text: &str) -> Value {
    if text == "[]" { json!([]) } else { Value::Null }
}

fn entries_of(spec: &mut Map<String, Value>, list: List) -> Option<&mut Vec<Value>> {
    spec.get_mut(list.field()).and_then(Value::as_array_mut)
}
