//! Which objects have a pod's template, and where.
//!
//! In: the value of a document. Out: its [`Workload`]s with the path to each template. Everything else passes
//! untouched: other kinds, and kinds of the same name in other groups.

use serde_json::Value;

use super::error::Why;
use crate::refused::Name;
use crate::setting::{self, PREFIX, Setting};

/// The way from a document's root to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Key(&'static str),
    Index(usize),
}

/// An object with the template of a pod.
#[derive(Debug)]
pub(crate) struct Workload<'a> {
    pub(crate) kind: String,
    pub(crate) name: String,
    /// From the document's root to the object.
    pub(crate) object: Vec<Place>,
    /// From the object to the template.
    path: &'static [&'static str],
    value: &'a Value,
    /// The lists that the object is in.
    lists: Vec<&'a Value>,
}

/// The path from an object to the template, by group and kind.
fn path_of(group: &str, kind: &str) -> Option<&'static [&'static str]> {
    Some(match (group, kind) {
        ("", "Pod") => &[],
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job")
        | ("argoproj.io", "Rollout") => &["spec", "template"],
        ("batch", "CronJob") => &["spec", "jobTemplate", "spec", "template"],
        _ => return None,
    })
}

/// The kind of a list's items, if they can be workloads; empty for a list of anything.
fn list_of<'a>(group: &str, kind: &'a str) -> Option<&'a str> {
    let items = kind.strip_suffix("List")?;
    let any = items.is_empty() && group.is_empty();
    (any || path_of(group, items).is_some()).then_some(items)
}

fn group(version: &str) -> &str {
    version.split_once('/').map_or("", |(group, _)| group)
}

/// Whether an object of this version and kind can have a template.
pub(crate) fn is_workload(version: &str, kind: &str) -> bool {
    let group = group(version);
    path_of(group, kind).is_some() || list_of(group, kind).is_some()
}

/// All workloads of a document.
pub(crate) fn workloads(root: &Value) -> Vec<Workload<'_>> {
    let mut found = Vec::new();
    let mut way = Way::default();
    collect(root, ("", ""), &mut way, &mut found);
    found
}

/// The way from a document's root to an object.
#[derive(Debug, Default)]
struct Way<'a> {
    places: Vec<Place>,
    lists: Vec<&'a Value>,
}

fn collect<'a>(
    value: &'a Value,
    (version, kind): (&'a str, &'a str),
    way: &mut Way<'a>,
    found: &mut Vec<Workload<'a>>,
) {
    // The items of a PodList have no kind of their own.
    let version = value["apiVersion"].as_str().unwrap_or(version);
    let kind = value["kind"].as_str().unwrap_or(kind);
    if let Some(path) = path_of(group(version), kind) {
        let metadata = &value["metadata"];
        let name = metadata["name"]
            .as_str()
            .or(metadata["generateName"].as_str());
        found.push(Workload {
            kind: kind.to_owned(),
            name: name.unwrap_or_default().to_owned(),
            object: way.places.clone(),
            path,
            value,
            lists: way.lists.clone(),
        });
    } else if let Some(items) = list_of(group(version), kind) {
        way.places.push(Place::Key("items"));
        way.lists.push(value);
        let entries = value["items"].as_array().map_or(&[][..], Vec::as_slice);
        for (index, item) in entries.iter().enumerate() {
            way.places.push(Place::Index(index));
            collect(item, (version, items), way, found);
            way.places.pop();
        }
        way.places.pop();
        way.lists.pop();
    }
}

impl<'a> Workload<'a> {
    /// The way from the document's root to the template.
    pub(crate) fn place(&self) -> Vec<Place> {
        let path = self.path.iter().copied().map(Place::Key);
        self.object.iter().cloned().chain(path).collect()
    }

    /// The template; `None` if the pods come from another object.
    pub(crate) fn template(&self) -> Result<Option<&'a Value>, Why> {
        let template = self.path.iter().fold(self.value, |value, key| &value[*key]);
        if template.is_object() {
            return Ok(Some(template));
        }
        if self.kind == "Rollout" && self.value["spec"]["workloadRef"].is_object() {
            return Ok(None);
        }
        Err(Why::NoTemplate(self.path_text()))
    }

    /// An annotation or a label that is not on the pod, where podspan would read it: on the object, between it
    /// and the pod, on a list, or beside `metadata`. One that the pod has too is no error: kustomize writes
    /// common annotations to all levels.
    pub(crate) fn misplaced(&self, settings: &[Setting]) -> Option<Why> {
        let mut levels: Vec<(String, &Value)> = Vec::new();
        for list in &self.lists {
            levels.push(("the List's metadata".to_owned(), &list["metadata"]));
        }
        let (mut value, mut path) = (self.value, String::new());
        for key in self.path {
            levels.push((format!("{path}metadata"), &value["metadata"]));
            levels.push((path.trim_end_matches('.').to_owned(), value));
            value = &value[*key];
            path = format!("{path}{key}.");
        }
        let template = value;
        levels.push((path.trim_end_matches('.').to_owned(), template));
        levels.push((format!("{path}spec"), &template["spec"]));
        let found = levels.iter().find_map(|(level, value)| {
            let (field, name) = wrong_key(value, &template["metadata"], settings)?;
            let level = if level.is_empty() {
                field.to_owned()
            } else {
                format!("{level}.{field}")
            };
            Some((level, name))
        });
        found.map(|(level, name)| Why::Misplaced {
            name: Name(name).to_string(),
            found: level,
            place: format!("{path}metadata.annotations"),
        })
    }

    fn path_text(&self) -> &'static str {
        match self.path.len() {
            0 => "spec",
            2 => "spec.template",
            _ => "spec.jobTemplate.spec.template",
        }
    }
}

/// The first annotation of podspan in this value, or label that is the name of one; not those that the pod has
/// as an annotation with the same value.
fn wrong_key<'a>(
    level: &'a Value,
    metadata: &Value,
    settings: &[Setting],
) -> Option<(&'static str, &'a str)> {
    ["annotations", "labels"].into_iter().find_map(|field| {
        let mut entries = level[field].as_object()?.iter();
        let wrong = entries.find(|(key, value)| {
            let Some(name) = key.strip_prefix(PREFIX) else {
                return false;
            };
            let is_other_label = field == "labels" && !setting::is_known(name, settings);
            !is_other_label && metadata["annotations"].get(key) != Some(*value)
        });
        wrong.map(|(key, _)| (field, key.as_str()))
    })
}
