//! The sidecar that annotations `podspan.dev/*` and defaults describe.
//!
//! In: what is given for a pod, the pod's spec, and the table of settings. Out: a [`Sidecar`], or everything
//! that is wrong.
//!
//! | annotation | read by |
//! |-|-|
//! | one for each setting: `SENSOR_PORT` is `podspan.dev/sensor-port` | here; it sets the variable |
//! | `podspan.dev/cpu`, `podspan.dev/memory` | here: request and limit |
//! | `podspan.dev/containers` | here; it becomes the variable `FILTER` |
//! | `podspan.dev/filter` | here, for the variable `FILTER`, and by podspan while it runs |
//! | `podspan.dev/tunnel-secret` | here: the Secret with the keys of encrypted tunnels |
//! | `podspan.dev/host-network` | here |
//! | `podspan.dev/mirror` | podspan while it runs; here only checked |
//! | `podspan.dev/port`, `podspan.dev/receiver` | other podspans, if the pod is a sensor |
//! | `podspan.dev/tunnel`, `podspan.dev/tunnel-port` | here, as settings; and by other podspans, if the pod is a sensor |
//!
//! `FILTER` has the annotation's filter too, because it applies until podspan has the first answer of the API
//! server, and always if podspan may not read its own pod: otherwise it would mirror what the annotation
//! excludes.
//!
//! `podspan.dev/containers` and `podspan.dev/filter` together are refused, with the filter that joins both;
//! with `podspan.dev/annotations: off`, they are joined in the variable. A default filter is joined too: it is
//! in the variable only.
//! The image has no annotation: whoever injects chooses it, because a policy that permits `NET_RAW` to
//! podspan depends on it.

use serde_json::Value;

use crate::Options;
use crate::given::{Given, Origin};
use crate::ports;
use crate::quantity::thousandths;
use crate::refused::Reason;
use crate::setting::Setting;
use crate::sidecar::{Amount, CPU, MEMORY, Resource, Sidecar};
use crate::tunnel::{self, SecretName};

/// The sidecar for a pod.
pub(crate) fn sidecar(
    given: &Given<'_>,
    spec: &Value,
    options: &Options<'_>,
) -> Result<Sidecar, Vec<Reason>> {
    let mut sidecar = Sidecar::new(&options.image, options.placement, options.security);
    let mut reasons = Vec::new();
    if !is_image(&options.image) {
        reasons.push(Reason::Image(options.image.clone()));
    }
    let mut keep = |result: Result<(), Reason>| reasons.extend(result.err());
    for setting in options.settings {
        let Some(name) = setting.name() else {
            continue;
        };
        if let Some((origin, value)) = given.get(&name) {
            keep(checked(setting, origin, &name, value));
            sidecar.set(setting.variable, value);
        }
    }
    let resources = [(CPU, &mut sidecar.cpu), (MEMORY, &mut sidecar.memory)];
    for (resource, amount) in resources {
        if let Some((origin, text)) = given.get(resource.name) {
            keep(self::amount(origin, resource, text).map(|new| *amount = new));
        }
    }
    keep(secret(given.get(tunnel::ANNOTATION)).map(|secret| sidecar.tunnel = secret));
    keep(host_network(given.annotation("host-network"), spec));
    let source_text = given.value("annotations").map(str::trim);
    let followed = !source_text.is_some_and(|text| text.eq_ignore_ascii_case("off"));
    keep(source(given.get("annotations")));
    keep(switch(given.annotation("mirror"), followed));
    keep(filter(given, followed, spec, options).map(|expression| {
        if let Some(expression) = expression {
            sidecar.set("FILTER", &expression);
        }
    }));
    if reasons.is_empty() {
        Ok(sidecar)
    } else {
        Err(reasons)
    }
}

/// The variable `FILTER`. While podspan follows the annotation `podspan.dev/filter`, it uses it in the place of
/// the variable, so only one of both can have an effect; with `podspan.dev/annotations: off`, the variable has
/// both.
fn filter(
    given: &Given<'_>,
    followed: bool,
    spec: &Value,
    options: &Options<'_>,
) -> Result<Option<String>, Reason> {
    let text = given.get("filter");
    if let Some((origin, text)) = text {
        (options.check_filter)(text)
            .map_err(|why| wrong(origin, "filter", text, why, "\"not port 9090\""))?;
    }
    // An empty filter accepts every frame, as no filter does.
    let expression = text
        .map(|(_, text)| text)
        .filter(|text| !text.trim().is_empty());
    let Some(names) = given.annotation("containers") else {
        return Ok(expression.map(str::to_owned));
    };
    let wrong = |why| wrong(Origin::Annotation, "containers", names, why, "web,api");
    let ports = ports::filter(names, spec).map_err(wrong)?;
    let joined = match expression {
        Some(text) => format!("({ports}) and ({text})"),
        None => ports,
    };
    (options.check_filter)(&joined).map_err(wrong)?;
    if followed && given.annotation("filter").is_some() {
        return Err(Reason::TwoFilters { joined });
    }
    Ok(Some(joined))
}

/// The Secret with the keys of encrypted tunnels.
fn secret(given: Option<(Origin, &str)>) -> Result<Option<SecretName>, Reason> {
    let Some((origin, text)) = given else {
        return Ok(None);
    };
    let parsed = text.parse().map(Some);
    parsed.map_err(|why: tunnel::NotASecretName| {
        wrong(
            origin,
            tunnel::ANNOTATION,
            text,
            why.to_string(),
            SecretName::EXAMPLE,
        )
    })
}

/// podspan's container gets no volume for annotations, so it cannot read a file.
fn source(given: Option<(Origin, &str)>) -> Result<(), Reason> {
    match given {
        Some((origin, text)) if text.trim_start().starts_with('/') => {
            let why = "podspan is injected without a volume for such a file";
            Err(wrong(origin, "annotations", text, why, "\"off\""))
        }
        _ => Ok(()),
    }
}

fn checked(setting: &Setting, origin: Origin, name: &str, value: &str) -> Result<(), Reason> {
    (setting.check)(value).map_err(|why| {
        let example = format!("\"{}\"", setting.example);
        let why = format!("{why}; expected: {}", setting.expected);
        wrong(origin, name, value, why, &example)
    })
}

fn wrong(origin: Origin, name: &str, value: &str, why: impl Into<String>, example: &str) -> Reason {
    Reason::Wrong {
        origin,
        name: name.to_owned(),
        value: value.to_owned(),
        why: why.into(),
        example: example.to_owned(),
    }
}

/// One quantity is request and limit, so that a pod of the class Guaranteed stays one; two, separated by a
/// slash, are the request and the limit.
fn amount(origin: Origin, resource: Resource, text: &str) -> Result<Amount, Reason> {
    let wrong = |why: String| wrong(origin, resource.name, text, why, &resource.example());
    let (request, limit) = text.split_once('/').unwrap_or((text, text));
    let [request_value, limit_value] = [request, limit].map(thousandths);
    let (Some(request_value), Some(limit_value)) = (request_value, limit_value) else {
        return Err(wrong(
            "it is not a quantity, or a request and a limit separated by a slash".to_owned(),
        ));
    };
    if request_value > limit_value {
        return Err(wrong("the request is above the limit".to_owned()));
    }
    if Some(limit_value) < thousandths(resource.least) {
        let least = resource.least;
        return Err(wrong(format!("podspan needs a limit of at least {least}")));
    }
    Ok(Amount {
        request: request.to_owned(),
        limit: limit.to_owned(),
    })
}

fn host_network(annotation: Option<&str>, spec: &Value) -> Result<(), Reason> {
    match annotation {
        Some("allow") => Ok(()),
        Some(text) => {
            let why = "the only value is allow";
            Err(wrong(
                Origin::Annotation,
                "host-network",
                text,
                why,
                "allow",
            ))
        }
        None if spec["hostNetwork"] == true => Err(Reason::HostNetwork),
        None => Ok(()),
    }
}

/// podspan accepts upper and lower case.
fn switch(annotation: Option<&str>, followed: bool) -> Result<(), Reason> {
    let Some(text) = annotation else {
        return Ok(());
    };
    let wrong = |why, example| Err(wrong(Origin::Annotation, "mirror", text, why, example));
    let is_word = |word| text.trim().eq_ignore_ascii_case(word);
    if !is_word("on") && !is_word("off") {
        return wrong("it is neither on nor off", "\"off\"");
    }
    if !followed {
        return wrong(
            "with podspan.dev/annotations: off, podspan ignores it",
            "\"off\", without podspan.dev/annotations",
        );
    }
    Ok(())
}

/// A plain check, which finds empty texts and YAML in them.
fn is_image(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte);
    let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.iter().copied().all(inner) && end(bytes.first()) && end(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images() {
        for image in [
            "podspan",
            "registry.example:5000/a/podspan@sha256:12ab",
            "a/b_c:1.0-x",
        ] {
            assert!(is_image(image), "{image}");
        }
        for image in ["", " a", "a b", "a\n", "a:", "/a", "{a}"] {
            assert!(!is_image(image), "{image}");
        }
    }
}
