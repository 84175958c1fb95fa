//! The patch that adds the sidecar.
//!
//! In: the definition of the sidecar in [`crate::sidecar`]. Out: an expression of CEL that gives a JSON patch. It
//! writes the tree of the sidecar as an object, and computes in it what differs between two sidecars.

use crate::policy::cel::{indented, object, text};
use crate::policy::variables::{BASE_NAMES, amount};
use crate::sidecar::{BASE, IMAGE, Placement, Security, Sidecar};
use crate::tree::Tree;
use crate::tunnel::{self, SecretName};

/// Where the container is, as a type of CEL.
const PATH: &str = "spec.initContainers";

/// The patch. Without a reason against it, the sidecar is the first of the init containers. A pod that has a
/// container of this name is left as it is: whoever put it there has chosen it.
pub(super) fn patch() -> String {
    let container = indented(&container(), 4);
    let volume = indented(&volume(), 4);
    format!(
        "size(variables.wrongParameters + variables.wrongAnnotations + variables.wrongPod) > 0 ||\n\
         variables.present ? [] :\n\
         (has(object.spec.initContainers) ? [] : [\n  \
           JSONPatch{{op: \"add\", path: \"/spec/initContainers\", value: []}}\n\
         ]) + [\n  \
           JSONPatch{{op: \"add\", path: \"/spec/initContainers/0\", value:\n{container}\n  }}\n\
         ] + (variables.tunnelSecret == \"\" || has(object.spec.volumes) ? [] : [\n  \
           JSONPatch{{op: \"add\", path: \"/spec/volumes\", value: []}}\n\
         ]) + (variables.tunnelSecret == \"\" ? [] : [\n  \
           JSONPatch{{op: \"add\", path: \"/spec/volumes/-\", value:\n{volume}\n  }}\n\
         ])"
    )
}

/// The volume with the keys.
fn volume() -> String {
    let any = SecretName::example();
    object(
        &tunnel::volume(&any),
        "spec.volumes",
        &|path, literal| match path {
            "secret.secretName" => "variables.tunnelSecret".to_owned(),
            _ => literal,
        },
    )
}

/// A list where there are keys, and else an empty one.
fn with_keys(list: &str) -> String {
    format!("(variables.tunnelSecret == \"\" ? [] : {list})")
}

/// Whether the pod has a container of podspan's name.
pub(super) fn present() -> String {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let lists = lists.map(|list| {
        format!("variables.pod.spec.?{list}.orValue([]).exists(c, c.name == \"podspan\")")
    });
    lists.join(" ||\n")
}

fn container() -> String {
    let sidecar = Sidecar::new(IMAGE, Placement::Native, Security::default());
    let mut container = sidecar.container();
    if let Tree::Map(fields) = &mut container {
        fields.push(("volumeMounts", tunnel::mounts()));
    }
    let environment = format!("{PATH}.env");
    let of_keys = object(
        &Tree::List(tunnel::variables()),
        &environment,
        &|_, literal| literal,
    );
    let of_keys = with_keys(&of_keys);
    object(&container, PATH, &|path, literal| match path {
        "image" => format!("string(variables.parameters[?\"image\"].orValue({literal}))"),
        "env" => format!(
            "{} +\n  variables.set.map(v, Object.{environment}{{name: v.name, value: {}}}) +\n  {of_keys}",
            literal,
            escaped("v.value")
        ),
        "volumeMounts" => with_keys(&literal),
        "env[].value" => base_value(&literal),
        "resources.requests.cpu" => amount("variables.cpu", false),
        "resources.requests.memory" => amount("variables.memory", false),
        "resources.limits.cpu" => amount("variables.cpu", true),
        "resources.limits.memory" => amount("variables.memory", true),
        "securityContext" => security_context(),
        _ => literal,
    })
}

/// The variables that every sidecar has are recognised by their values.
fn base_value(literal: &str) -> String {
    let place = BASE.iter().position(|(_, value)| text(value) == literal);
    match place.and_then(|place| BASE_NAMES.get(place)) {
        Some(name) => escaped(&format!("variables.{name}")),
        None => literal.to_owned(),
    }
}

/// The kubelet replaces `$(NAME)` by a variable, and `$$` by `$`.
fn escaped(value: &str) -> String {
    format!("{value}.replace(\"$\", \"$$\")")
}

fn security_context() -> String {
    let path = format!("{PATH}.securityContext");
    let context = |security: Security| object(&security.context(), &path, &|_, literal| literal);
    let [(_, first), others @ ..] = Security::NAMES;
    let choices = others.map(|(name, security)| {
        format!(
            "variables.security == {} ? {} :\n",
            text(name),
            context(security)
        )
    });
    format!("{}{}", choices.concat(), context(first))
}

/// The variable `security`.
pub(super) fn security() -> String {
    let [(first, _), ..] = Security::NAMES;
    format!(
        "string(variables.parameters[?\"security\"].orValue({}))",
        text(first)
    )
}
