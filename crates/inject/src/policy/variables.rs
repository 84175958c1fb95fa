//! What the policies compute from a pod, as variables of CEL.
//!
//! In: the table of settings. Out: [`Variable`]s in the order of their use: each names only those before it.
//! They say in CEL what [`crate::annotations`], [`crate::ports`] and [`crate::pod`] say in Rust; the tests against
//! an API server compare the two. The API server computes a variable when it is first used, once for each object.

use crate::policy::cel::{text, texts};
use crate::policy::reasons;
use crate::setting::{PREFIX, Setting};
use crate::sidecar::{BASE, CPU, MEMORY, NAME};
use crate::tunnel;

/// A variable of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    /// What it is, for who reads the policy.
    pub(super) comment: &'static str,
    pub(super) expression: String,
}

fn variable(name: &'static str, comment: &'static str, expression: impl Into<String>) -> Variable {
    Variable {
        name,
        comment,
        expression: expression.into(),
    }
}

/// The longest list of names, because the API server stops an expression that costs too much.
pub(super) const LONGEST_NAMES: usize = 2048;

/// Where the template of a pod is in the object of the request.
pub(super) fn any_template(object: &str) -> String {
    // dyn(): the fields of one kind are no error in another.
    format!(
        "request.kind.kind == \"Pod\" ? dyn({object}) :\n\
         request.kind.kind == \"CronJob\" ? dyn({object}).spec.jobTemplate.spec.template :\n\
         dyn({object}).spec.template"
    )
}

/// The parameters, from a `ConfigMap` of this name, and what is wrong with them.
pub(super) fn parameters(config_map: &str, settings: &[Setting]) -> Vec<Variable> {
    vec![
        variable(
            "parameters",
            "The ConfigMap's keys.",
            format!("{config_map}.?data.orValue({{}})"),
        ),
        variable(
            "settings",
            "podspan's settings, in the order of the variables of the container: the annotation without its \
             prefix, the variable, and what a value must match.",
            table(settings),
        ),
        variable(
            "wrongParameters",
            "What is wrong with the ConfigMap. Nothing is injected then.",
            reasons::wrong_parameters(),
        ),
    ]
}

/// What a pod's annotations and the parameters make of the sidecar, and what is wrong with the annotations. They
/// need `pod` and [`parameters`].
pub(super) fn sidecar(settings: &[Setting]) -> Vec<Variable> {
    let mut variables = vec![
        variable(
            "annotations",
            "",
            "variables.pod.?metadata.?annotations.orValue({})",
        ),
        variable("labels", "", "variables.pod.?metadata.?labels.orValue({})"),
        variable(
            "containers",
            "The containers that run as long as the application.",
            format!(
                "variables.pod.spec.?containers.orValue([]).filter(c, c.name != {name}) +\n\
                 variables.pod.spec.?initContainers.orValue([]).filter(c,\n  \
                 c.name != {name} && c.?restartPolicy.orValue(\"\") == \"Always\")",
                name = text(NAME)
            ),
        ),
        variable(
            "names",
            "Those whose ports are mirrored.",
            format!(
                "{key} in variables.annotations &&\n  \
                 size(variables.annotations[{key}]) <= {LONGEST_NAMES} ?\n  \
                 string(variables.annotations[{key}]).split(\",\").map(n, n.trim()) : []",
                key = text("podspan.dev/containers")
            ),
        ),
        variable(
            "allPorts",
            "Their ports as expressions of a filter.",
            "variables.names.map(n, variables.containers.filter(c, c.name == n)\n  \
             .map(c, c.?ports.orValue([])\n    \
             .map(p, p.?protocol.orValue(\"TCP\").lowerAscii() + \" port \" + string(p.containerPort))\n    \
             .join(\" or \"))\n  \
             .join(\" or \")).join(\" or \").split(\" or \")",
        ),
        variable(
            "ports",
            "Each of them once, as one filter.",
            "variables.allPorts.transformList(i, p, variables.allPorts.indexOf(p) == i, p).join(\" or \")",
        ),
        variable(
            "followed",
            "Whether podspan follows the annotations of its pod while it runs.",
            format!(
                "{}.trim().lowerAscii() != \"off\"",
                effective("annotations", "api")
            ),
        ),
    ];
    variables.extend(base(settings));
    variables.push(variable(
        "filter",
        "The variable FILTER; empty: none.",
        filter(),
    ));
    variables.push(variable("set", "The other variables.", set()));
    variables.push(variable(
        "tunnelSecret",
        "The Secret with the keys of encrypted tunnels; empty: none.",
        effective(tunnel::ANNOTATION, ""),
    ));
    variables.push(variable(
        "wrongAnnotations",
        "What is wrong with the annotations. The pod is not changed then.",
        reasons::wrong_annotations(),
    ));
    variables.push(variable(
        "wrongPod",
        "Why podspan cannot be in the pod.",
        reasons::wrong_pod(),
    ));
    variables
}

/// The value of an annotation, else of the parameter of the same name, else another text.
fn effective(name: &str, otherwise: &str) -> String {
    format!(
        "string(variables.annotations[?{}].orValue(\n  variables.parameters[?{}].orValue({})))",
        text(&format!("{PREFIX}{name}")),
        text(name),
        text(otherwise)
    )
}

/// The variables that every sidecar has, and the resources.
fn base(settings: &[Setting]) -> Vec<Variable> {
    let mut variables = Vec::new();
    for ((variable_name, value), name) in BASE.iter().zip(BASE_NAMES) {
        let setting = settings
            .iter()
            .find(|setting| setting.variable == *variable_name);
        let expression = match setting.and_then(Setting::name) {
            Some(annotation) => effective(&annotation, value),
            None => text(value),
        };
        variables.push(variable(name, "", expression));
    }
    for resource in [CPU, MEMORY] {
        variables.push(variable(
            resource.name,
            "The request, and the limit after a slash.",
            effective(resource.name, &resource.example()),
        ));
    }
    variables
}

/// The names of [`BASE`] in the policies.
pub(super) const BASE_NAMES: [&str; BASE.len()] = ["sensor", "onFailure"];

/// The request of a resource, and its limit.
pub(super) fn amount(value: &str, is_limit: bool) -> String {
    if is_limit {
        // The whole text where there is no slash.
        format!("{value}.substring({value}.indexOf(\"/\") + 1)")
    } else {
        format!("{value}.split(\"/\")[0]")
    }
}

/// The table of settings as a list of maps.
fn table(settings: &[Setting]) -> String {
    let rows = settings.iter().filter_map(|setting| {
        let name = setting.name()?;
        let (pattern, expected, example) = accepted(setting);
        Some(format!(
            "  {{\"name\": {}, \"variable\": {},\n   \"pattern\": {},\n   \"expected\": {},\n   \"example\": {}}}",
            text(&name),
            text(setting.variable),
            text(pattern),
            text(expected),
            text(example),
        ))
    });
    format!("[\n{}\n]", rows.collect::<Vec<_>>().join(",\n"))
}

/// What injection accepts: the pattern, its description and an example.
fn accepted(setting: &Setting) -> (&'static str, &'static str, &'static str) {
    match setting.variable {
        // podspan's container gets no volume, so it cannot read a file.
        "ANNOTATIONS" => (r"^\s*(?i:api|off)\s*$", "api or off", "off"),
        _ => (setting.pattern, setting.expected, setting.example),
    }
}

fn set() -> String {
    let own: Vec<&str> = BASE.iter().map(|(name, _)| *name).collect();
    format!(
        "variables.settings.filter(s, !(s.variable in {own}) &&\n    \
         (({prefix} + s.name) in variables.annotations || s.name in variables.parameters))\n  \
         .map(s, {{\"name\": s.variable, \"value\": string(variables.annotations[?{prefix} + s.name]\n    \
         .orValue(variables.parameters[?s.name].orValue(\"\")))}}) +\n\
         (variables.filter == \"\" ? [] : [{{\"name\": \"FILTER\", \"value\": variables.filter}}])",
        own = texts(own),
        prefix = text(PREFIX)
    )
}

/// The filter of the annotation or of the parameters, and the ports.
fn filter() -> String {
    format!(
        "[{}].map(f,\n  \
           size(variables.names) == 0 ? (f.trim() == \"\" ? \"\" : f) :\n  \
           f.trim() == \"\" ? variables.ports :\n  \
           \"(\" + variables.ports + \") and (\" + f + \")\")[0]",
        effective("filter", "")
    )
}
