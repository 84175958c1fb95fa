//! What changes in an object of a cluster.
//!
//! In: the object as the API server has it. Out: a JSON patch and what follows from it, or the reason of a refusal
//! with its remedy. The template is changed as in a file: the object is a document for [`inject::yaml`].

use std::ffi::OsString;

use inject::yaml::{self, Change, Output};
use inject::{EXCLUDED, Options};
use serde_json::{Value, json};

use crate::results::{Outcome, Row};

/// What is done with each object.
#[derive(Debug)]
pub(crate) enum Action<'a> {
    Inject(Box<Options<'a>>),
    Remove,
}

impl Action<'_> {
    /// The changed stream.
    pub(crate) fn apply(&self, stream: &[u8]) -> Result<Output, yaml::Error> {
        match self {
            Self::Inject(options) => yaml::inject(stream, options),
            Self::Remove => yaml::remove(stream),
        }
    }

    fn command(&self) -> &'static str {
        match self {
            Self::Inject(_) => "kubectl podspan inject",
            Self::Remove => "kubectl podspan uninject",
        }
    }
}

/// An object of the cluster.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) object: Value,
}

/// What is decided about an object.
#[derive(Debug)]
pub(crate) enum Decision {
    Change(Plan),
    Nothing(Outcome),
}

/// A change.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) outcome: Outcome,
    /// What happens to the pods.
    pub(crate) effect: String,
    /// A JSON patch (RFC 6902).
    pub(crate) patch: Value,
    /// The object with the change.
    pub(crate) after: Value,
}

impl Target {
    pub(crate) fn new(object: Value) -> Self {
        Self { object }
    }

    fn text(&self, pointer: &str) -> &str {
        let value = self.object.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_default()
    }

    pub(crate) fn kind(&self) -> &str {
        self.text("/kind")
    }

    fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    /// For people: `deployment shop/web`.
    pub(crate) fn name(&self) -> String {
        let kind = self.kind().to_lowercase();
        match self.namespace() {
            "" => format!("{kind} {}", self.text("/metadata/name")),
            namespace => format!("{kind} {namespace}/{}", self.text("/metadata/name")),
        }
    }

    pub(crate) fn row(&self, outcome: Outcome) -> Row {
        Row {
            kind: self.kind().to_owned(),
            namespace: self.namespace().to_owned(),
            name: self.text("/metadata/name").to_owned(),
            outcome,
        }
    }

    /// The object as an argument of kubectl: kind, version and group, so that it is no other kind of this name.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let kind = self.kind().to_lowercase();
        let kind = match self.text("/apiVersion").split_once('/') {
            Some((group, version)) => format!("{kind}.{version}.{group}"),
            None => kind,
        };
        let mut arguments = Vec::new();
        if !self.namespace().is_empty() {
            arguments.push(format!("--namespace={}", self.namespace()).into());
        }
        arguments.push(format!("{kind}/{}", self.text("/metadata/name")).into());
        arguments
    }

    fn path(&self) -> &'static str {
        match self.kind() {
            "CronJob" => "/spec/jobTemplate/spec/template",
            _ => "/spec/template",
        }
    }

    /// Whether an object is still this one, with the same template.
    pub(crate) fn is_same(&self, now: &Value) -> bool {
        ["/metadata/uid", self.path()]
            .into_iter()
            .all(|pointer| self.object.pointer(pointer) == now.pointer(pointer))
    }

    /// The controller that owns it: kind and name.
    fn controller(&self) -> Option<(&str, &str)> {
        let owners = self.object["metadata"]["ownerReferences"].as_array()?;
        let owner = owners.iter().find(|owner| owner["controller"] == true)?;
        Some((owner["kind"].as_str()?, owner["name"].as_str()?))
    }
}

/// Decides what changes, or why nothing can.
pub(crate) fn plan(
    target: &Target,
    action: &Action<'_>,
    all_namespaces: bool,
) -> Result<Decision, String> {
    let output = action.apply(target.object.to_string().as_bytes());
    let outcome = match &output {
        Ok(output) => {
            let change = output.objects.first().map(|object| object.change);
            match Outcome::from(change.unwrap_or(Change::NotAWorkload)) {
                outcome @ (Outcome::Unchanged | Outcome::NoPods) => {
                    return Ok(Decision::Nothing(outcome));
                }
                outcome => outcome,
            }
        }
        // It gets the reason below.
        Err(_) => Outcome::Unchanged,
    };
    if let (Action::Inject(_), Some(namespace)) = (action, never(target)) {
        if all_namespaces {
            return Ok(Decision::Nothing(Outcome::LeftOut));
        }
        return Err(format!(
            "podspan is not injected in the namespace {namespace}: the cluster depends on it"
        ));
    }
    let output = output.map_err(reasons)?;
    if let Some(why) = immutable(target, action) {
        return Err(why);
    }
    let after: Value = serde_json::from_str(&output.text).map_err(|error| error.to_string())?;
    Ok(Decision::Change(Plan {
        outcome,
        effect: effect(target),
        patch: patch(target, &after),
        after,
    }))
}

fn never(target: &Target) -> Option<&'static str> {
    EXCLUDED
        .into_iter()
        .find(|name| *name == target.namespace())
}

/// The reasons without document and line, which an object of a cluster does not have.
fn reasons(error: yaml::Error) -> String {
    match error {
        yaml::Error::Objects(refusals) => {
            let reasons = refusals.iter().map(|refusal| refusal.why.to_string());
            reasons.collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}

/// Why the API server would not accept the change, or a controller would undo it.
fn immutable(target: &Target, action: &Action<'_>) -> Option<String> {
    let command = action.command();
    let name = target.text("/metadata/name");
    if let Some((kind, owner)) = target.controller() {
        let what = match target.kind() {
            "Pod" => "the containers of a pod cannot be changed",
            _ => "its controller decides about its pods",
        };
        let (kind, owner) = deployment(target, kind, owner);
        return Some(format!(
            "{what}. Change what has made it: {command} {kind}/{owner}"
        ));
    }
    match target.kind() {
        "Pod" => Some(format!(
            "the containers of a pod cannot be changed. Make the pod again: kubectl get pod {name} \
             --namespace={} --output=yaml | {command} -f - | kubectl replace --force -f -",
            target.namespace()
        )),
        "Job" => Some(format!(
            "the template of a Job cannot be changed. Delete it, and create it from its changed file: {command} -f FILE"
        )),
        _ => None,
    }
}

/// A pod names its `ReplicaSet`, and this one's name is that of the Deployment and a hash.
fn deployment<'a>(target: &'a Target, kind: &'a str, owner: &'a str) -> (String, &'a str) {
    let hash = target.text("/metadata/labels/pod-template-hash");
    let name = owner
        .strip_suffix(hash)
        .and_then(|name| name.strip_suffix('-'));
    match name.filter(|_| kind == "ReplicaSet" && !hash.is_empty()) {
        Some(name) => ("deployment".to_owned(), name),
        None => (kind.to_lowercase(), owner),
    }
}

/// The lists that change, if the template is still the one that was read.
fn patch(target: &Target, after: &Value) -> Value {
    let before = &target.object;
    let template = target.path();
    let tests = ["/metadata/uid", template]
        .map(|path| json!({"op": "test", "path": path, "value": before.pointer(path)}));
    let mut steps = tests.to_vec();
    for field in ["initContainers", "containers", "volumes"] {
        let path = format!("{template}/spec/{field}");
        let list = after.pointer(&path);
        match list {
            list if list == before.pointer(&path) => (),
            Some(list) => steps.push(json!({"op": "add", "path": path, "value": list})),
            None => steps.push(json!({"op": "remove", "path": path})),
        }
    }
    Value::from(steps)
}

/// What happens to the pods after a change of the template.
fn effect(target: &Target) -> String {
    let spec = &target.object["spec"];
    let on_delete = spec["updateStrategy"]["type"] == "OnDelete";
    let text = match target.kind() {
        "Deployment" if spec["paused"] == true => {
            "it is paused; its pods are replaced when it is resumed"
        }
        "StatefulSet" | "DaemonSet" if on_delete => "each of its pods changes when you delete it",
        "ReplicaSet" => "new pods have the change; delete the old ones",
        "CronJob" => "its next Job has the change",
        _ => "its pods are replaced: a rollout starts",
    };
    text.to_owned()
}
