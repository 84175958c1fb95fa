//! What an update of podspan's container would lose.
//!
//! In: the container that is there, and the sidecar that replaces it. Out: a reason for each difference that
//! somebody else made, for example a patch of kustomize on `SENSOR`. A difference is an update where injection
//! itself can have written the old value:
//!
//! - a variable whose setting has an annotation or a default now, or whose old value is that of every sidecar;
//! - an image of the same repository, or any if whoever injects has chosen the image;
//! - the amount of a resource that has an annotation or a default now, or is that of every sidecar;
//! - a Secret with the keys of encrypted tunnels, if another one is given now;
//! - a security context of [`Security`].

use serde_json::Value;

use crate::Options;
use crate::given::Given;
use crate::quantity::thousandths;
use crate::refused::{Name, Reason, Shown};
use crate::setting::{Setting, is_key};
use crate::sidecar::{Amount, BASE, CPU, DOWNWARD, IMAGE, MEMORY, RESTORE, Security, Sidecar};
use crate::tunnel;

const REMOVE: &str = "remove podspan's container first (uninject)";

/// What would be lost.
pub(crate) fn reasons(
    container: &Value,
    sidecar: &Sidecar,
    given: &Given<'_>,
    options: &Options<'_>,
) -> Vec<Reason> {
    let mut reasons = variables(container, sidecar, given, options.settings);
    reasons.extend(image(container, &sidecar.image));
    let amounts = [(CPU, &sidecar.cpu), (MEMORY, &sidecar.memory)];
    for (known, wanted) in amounts {
        let name = known.name;
        let is_known = |amount: &Amount| has(container, name, amount);
        if given.get(name).is_none() && !is_known(wanted) && !is_known(&known.amount()) {
            reasons.push(resource(container, name));
        }
    }
    reasons.extend(other_resources(container));
    let context = container.get("securityContext");
    let is_known = |(_, security): (_, Security)| context == Some(&security.context().value());
    if context.is_some() && !Security::NAMES.into_iter().any(is_known) {
        reasons.push(patched("another securityContext", capitalised(REMOVE)));
    }
    reasons
}

fn patched(what: impl Into<String>, remedy: impl Into<String>) -> Reason {
    Reason::Patched {
        what: what.into(),
        remedy: remedy.into(),
    }
}

fn variables(
    container: &Value,
    sidecar: &Sidecar,
    given: &Given<'_>,
    settings: &[Setting],
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    let entries = container["env"].as_array().map_or(&[][..], Vec::as_slice);
    for entry in entries {
        let name = entry["name"].as_str().unwrap_or_default();
        if seen.contains(&name) {
            let what = format!("the variable {} twice", Name(name));
            reasons.push(patched(what, "Remove one of them"));
        }
        seen.push(name);
        let is_fixed = RESTORE.iter().any(|(_, restore)| *restore == name)
            || DOWNWARD.iter().any(|(downward, _)| *downward == name);
        if is_fixed {
            continue;
        }
        let value = entry["value"]
            .as_str()
            .unwrap_or_default()
            .replace("$$", "$");
        let is_base = BASE.contains(&(name, value.as_str()));
        // With the mount, the Secret itself is the reason.
        let is_of_keys = tunnel::VARIABLES.contains(&(name, value.as_str()))
            && (sidecar.tunnel.is_some() || tunnel::has_mount(container));
        if !is_base
            && !is_of_keys
            && sidecar.get(name) != Some(&value)
            && !is_given(name, given, settings)
        {
            reasons.push(variable(name, &value, settings));
        }
    }
    reasons
}

/// The Secret with the keys of encrypted tunnels, which neither an annotation nor a default names now.
pub(crate) fn secret(name: &str) -> Reason {
    let shown = Shown(name);
    patched(
        format!("the keys of the Secret {shown}"),
        format!(
            "Add the annotation podspan.dev/{}: {shown}, or inject with this default, or {REMOVE}",
            tunnel::ANNOTATION
        ),
    )
}

/// Whether an annotation or a default gives this variable now.
fn is_given(variable: &str, given: &Given<'_>, settings: &[Setting]) -> bool {
    if variable == "FILTER" {
        return given.get("filter").is_some() || given.annotation("containers").is_some();
    }
    let setting = settings.iter().find(|setting| setting.variable == variable);
    let name = setting.and_then(Setting::name);
    name.is_some_and(|name| given.get(&name).is_some())
}

fn variable(name: &str, value: &str, settings: &[Setting]) -> Reason {
    if is_key(name) {
        // Whatever the value is, nobody may read it here.
        return patched(format!("the variable {name}"), capitalised(REMOVE));
    }
    let what = format!("{}={}", Name(name), Shown(value));
    let setting = settings.iter().find(|setting| setting.variable == name);
    let annotation = match (name, setting.and_then(Setting::name)) {
        ("FILTER", _) => "filter".to_owned(),
        (_, Some(annotation)) => annotation,
        _ => return patched(what, capitalised(REMOVE)),
    };
    let remedy = format!(
        "Add the annotation podspan.dev/{annotation}: {}, or inject with this default, or {REMOVE}",
        Shown(value)
    );
    patched(what, remedy)
}

fn image(container: &Value, wanted: &str) -> Option<Reason> {
    let found = container["image"].as_str()?;
    let is_update = repository(found) == repository(wanted)
        || repository(wanted) != repository(IMAGE)
        // As the components have it before kustomize replaces it.
        || found == "podspan";
    (!is_update).then(|| {
        let what = format!("the image {}", Shown(found));
        patched(what, format!("Inject with this image, or {REMOVE}"))
    })
}

/// An image without tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    match image.rsplit_once(':') {
        // A colon before a slash is that of a port.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => image,
    }
}

/// Whether request and limit have these values.
fn has(container: &Value, name: &str, amount: &Amount) -> bool {
    let resources = &container["resources"];
    let is = |found: &Value, wanted: &str| {
        text(found).is_some_and(|found| thousandths(&found) == thousandths(wanted))
    };
    is(&resources["requests"][name], &amount.request)
        && is(&resources["limits"][name], &amount.limit)
}

fn resource(container: &Value, name: &str) -> Reason {
    let resources = &container["resources"];
    let [request, limit] = ["requests", "limits"].map(|kind| text(&resources[kind][name]));
    let (Some(request), Some(limit)) = (&request, &limit) else {
        let [request, limit] = [&request, &limit].map(|text| text.as_deref().unwrap_or("none"));
        let what = format!("{name} request {} and limit {}", Name(request), Name(limit));
        return patched(what, capitalised(REMOVE));
    };
    let value = format!("{request}/{limit}");
    let value = Name(&value);
    patched(
        format!("{name} {value}"),
        format!(
            "Add the annotation podspan.dev/{name}: \"{value}\", or inject with this default, or {REMOVE}"
        ),
    )
}

/// podspan writes requests and limits of two resources.
fn other_resources(container: &Value) -> Option<Reason> {
    let resources = container["resources"].as_object()?;
    let is_known = |name: &String| name == "cpu" || name == "memory";
    let mut others = resources.iter().flat_map(|(kind, amounts)| {
        let amounts = amounts.as_object();
        let names = amounts.into_iter().flat_map(|amounts| amounts.keys());
        let is_kind = kind == "requests" || kind == "limits";
        let other = names.filter(move |name| !is_kind || !is_known(name));
        let whole = (!is_kind && amounts.is_none()).then_some(kind);
        other.chain(whole)
    });
    let name = others.next()?;
    let what = format!("the resource {}", Name(name));
    Some(patched(what, capitalised(REMOVE)))
}

fn text(amount: &Value) -> Option<String> {
    match amount {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_an_image_without_tag_and_digest() {
        for (image, expected) in [
            ("podspan", "podspan"),
            ("ghcr.io/podspan/podspan:0.1.0", "ghcr.io/podspan/podspan"),
            ("a.example:5000/podspan", "a.example:5000/podspan"),
            (
                "a.example:5000/podspan:1@sha256:12",
                "a.example:5000/podspan",
            ),
        ] {
            assert_eq!(repository(image), expected);
        }
    }
}
