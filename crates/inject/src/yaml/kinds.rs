//! Which objects have a pod's template, and where.
//!
//! In: the value of a document. Out: its [`Workload`]s with the path to each template. Everything else passes
//! untouched: other kinds, and kinds of the same name in other groups.

use serde_json::Value;

use super::error::Why;
use crate::annotations::PREFIX;

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
    collect(root, ("", ""), &mut Vec::new(), &mut found);
    found
}

fn collect<'a>(
    value: &'a Value,
    (version, kind): (&'a str, &'a str),
    object: &mut Vec<Place>,
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
            object: object.clone(),
            path,
            value,
        });
    } else if let Some(items) = list_of(group(version), kind) {
        object.push(Place::Key("items"));
        let entries = value["items"].as_array().map_or(&[][..], Vec::as_slice);
        for (index, item) in entries.iter().enumerate() {
            object.push(Place::Index(index));
            collect(item, (version, items), object, found);
            object.pop();
        }
        object.pop();
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

    /// An annotation on the object that belongs on the pod.
    pub(crate) fn misplaced(&self) -> Option<Why> {
        if self.path.is_empty() {
            return None;
        }
        let annotations = self.value["metadata"]["annotations"].as_object()?;
        let name = annotations.keys().find(|name| name.starts_with(PREFIX))?;
        let name = crate::refused::Name(name).to_string();
        Some(Why::Misplaced(name, self.kind.clone(), self.path_text()))
    }

    fn path_text(&self) -> &'static str {
        match self.path.len() {
            0 => "spec",
            2 => "spec.template",
            _ => "spec.jobTemplate.spec.template",
        }
    }
}
