//! Why podspan is not injected, as expressions of CEL that give lists of texts.
//!
//! In: the names of [`crate::policy::variables`]. Out: expressions. Each gives an empty list where nothing is wrong,
//! and else one text for each reason; they are as short as a warning of the API server may be.
//!
//! Two checks of the injection are missing, because CEL cannot make them: whether a filter compiles, and what no
//! pattern of a setting can say. podspan makes both when it starts.

use crate::NAMESPACE;
use crate::policy::CONFIG_MAP;
use crate::policy::cel::{shown, text, texts};
use crate::policy::variables::{LONGEST_NAMES, amount};
use crate::setting::{OTHER, PREFIX};
use crate::sidecar::{CPU, MEMORY, Resource};
use crate::tunnel::{self, NotASecretName, SecretName};

/// A quantity as `crate::quantity` reads it.
const QUANTITY: &str = "[+]?([0-9]{1,15}[.]?[0-9]{0,9}|[.][0-9]{1,9})\
     (n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+]?[0-9]|[eE][+]?1[0-8]|[eE]-[1-9])?";

/// A plain name of an image, as `crate::annotations` asks for it.
const IMAGE: &str = "^[A-Za-z0-9]([-A-Za-z0-9_./:@]*[A-Za-z0-9])?$";

/// A filter: printable, in any number of lines.
const FILTER: &str = r"^[\P{C}\n\t]*$";

/// The longest value, for the same reason as [`LONGEST_NAMES`].
const LONGEST: usize = 4096;

/// The parameters that are no settings.
const OTHER_PARAMETERS: [&str; 6] = [
    "image",
    "security",
    "cpu",
    "memory",
    "filter",
    tunnel::ANNOTATION,
];

/// A list of one text where a condition is true.
fn when(condition: &str, reason: &str) -> String {
    format!("({condition} ? [{reason}] : [])")
}

fn joined(parts: &[String]) -> String {
    parts.join(" +\n")
}

/// What a wrong value is called.
struct Place {
    /// Where the values are.
    map: &'static str,
    /// What stands before the name.
    before: String,
    /// The same in an example.
    prefix: &'static str,
}

impl Place {
    fn annotation() -> Self {
        Self {
            map: "variables.annotations",
            before: format!("the annotation {PREFIX}"),
            prefix: PREFIX,
        }
    }

    fn parameter() -> Self {
        Self {
            map: "variables.parameters",
            before: format!("the ConfigMap {NAMESPACE}/{CONFIG_MAP}: "),
            prefix: "",
        }
    }

    /// The settings whose values match no pattern.
    fn settings(&self) -> String {
        let key = if self.prefix.is_empty() {
            "s.name".to_owned()
        } else {
            format!("({} + s.name)", text(self.prefix))
        };
        let value = format!("string({}[{key}])", self.map);
        format!(
            "variables.settings.filter(s, {key} in {map} &&\n    \
             (size({value}) > {LONGEST} || !{value}.matches(s.pattern)))\n  \
             .map(s, {before} + s.name + \" is \" + [{value}].map(v, {shown})[0] +\n    \
             \", expected: \" + s.expected + \". Example: {prefix}\" + s.name + \": \" + strings.quote(s.example))",
            map = self.map,
            before = text(&self.before),
            shown = shown("v"),
            prefix = self.prefix,
        )
    }

    /// One value, as a list without an entry where it is missing.
    fn value(&self, name: &str) -> String {
        let key = text(&format!("{}{name}", self.prefix));
        format!(
            "({key} in {map} ? [string({map}[{key}])] : [])",
            map = self.map
        )
    }

    /// One value, where `wrong` is true of `v`. `why` follows the value.
    fn wrong(&self, name: &str, wrong: &str, why: &str) -> String {
        format!(
            "{}\n  .filter(v, {wrong})\n  .map(v, {} + {} + {})",
            self.value(name),
            text(&format!("{}{name} is ", self.before)),
            shown("v"),
            text(why)
        )
    }

    /// A resource.
    fn amount(&self, resource: Resource) -> [String; 3] {
        let Resource { name, least, .. } = resource;
        let is_quantity = format!(
            "size(v) < 100 && v.matches({}) && v.split(\"/\").all(q, isQuantity(q))",
            text(&format!("^{QUANTITY}(/{QUANTITY})?$"))
        );
        let [least_limit, request_value, limit_value] = [
            format!("quantity({})", text(least)),
            format!("quantity({})", amount("v", false)),
            format!("quantity({})", amount("v", true)),
        ];
        let example = format!(". Example: {}{name}: {}", self.prefix, resource.example());
        [
            (
                format!("!({is_quantity})"),
                "it is not a quantity, or a request and a limit separated by a slash".to_owned(),
            ),
            (
                format!("{is_quantity} &&\n    {request_value}.isGreaterThan({limit_value})"),
                "the request is above the limit".to_owned(),
            ),
            (
                format!("{is_quantity} &&\n    {limit_value}.isLessThan({least_limit})"),
                format!("podspan needs a limit of at least {least}"),
            ),
        ]
        .map(|(wrong, why)| self.wrong(name, &wrong, &format!(": {why}{example}")))
    }
}

fn not_matching(pattern: &str) -> String {
    format!("size(v) > {LONGEST} || !v.matches({})", text(pattern))
}

fn wrong_filter(place: &Place) -> String {
    place.wrong(
        "filter",
        &not_matching(FILTER),
        ", which is not printable, or too long",
    )
}

fn wrong_secret(place: &Place) -> String {
    let wrong = format!(
        "size(v) > {} || !v.matches({})",
        SecretName::LONGEST,
        text(SecretName::PATTERN)
    );
    let why = format!(
        ": {NotASecretName}. Example: {}{}: {}",
        place.prefix,
        tunnel::ANNOTATION,
        SecretName::EXAMPLE
    );
    place.wrong(tunnel::ANNOTATION, &wrong, &why)
}

pub(super) fn wrong_parameters() -> String {
    let place = Place::parameter();
    let mut parts = vec![
        format!(
            "variables.parameters.filter(k, !(k in {known}) &&\n    \
             !variables.settings.exists(s, s.name == k))\n  \
             .map(k, {before} + {shown} + \" is unknown\")",
            known = texts(OTHER_PARAMETERS),
            before = text(&format!("{}the key ", place.before)),
            shown = shown("k")
        ),
        place.settings(),
        place.wrong(
            "image",
            &not_matching(IMAGE),
            ", which is not the name of an image. Example: image: registry.example/podspan:0.1.0",
        ),
        place.wrong(
            "security",
            &not_matching("^(added|baseline|root)$"),
            ", expected: added, baseline or root",
        ),
        wrong_filter(&place),
        wrong_secret(&place),
    ];
    for resource in [CPU, MEMORY] {
        parts.extend(place.amount(resource));
    }
    joined(&parts)
}

pub(super) fn wrong_annotations() -> String {
    let place = Place::annotation();
    let known = format!(
        "(k in {} ||\n    variables.settings.exists(s, {} + s.name == k))",
        texts(
            OTHER
                .map(|name| format!("{PREFIX}{name}"))
                .iter()
                .map(String::as_str)
        ),
        text(PREFIX)
    );
    let mut parts = vec![
        format!(
            "variables.annotations.filter(k, k.startsWith({}) && !{known})\n  \
             .map(k, \"the annotation \" + k + \" is unknown, or cannot be set\")",
            text(PREFIX),
        ),
        format!(
            "variables.labels.filter(k, {known})\n  \
             .map(k, \"the pod has the label \" + k + \", which has no effect: podspan reads annotations\")"
        ),
        place.settings(),
    ];
    for resource in [CPU, MEMORY] {
        parts.extend(place.amount(resource));
    }
    parts.extend([
        place.wrong(
            "host-network",
            "v != \"allow\"",
            ": the only value is allow",
        ),
        place.wrong(
            "mirror",
            &not_matching("^\\s*(?i:on|off)\\s*$"),
            ": it is neither on nor off",
        ),
        place.wrong(
            "mirror",
            "!variables.followed",
            ": with annotations: off, podspan ignores it",
        ),
        wrong_filter(&place),
        wrong_secret(&place),
    ]);
    parts.extend(wrong_names());
    joined(&parts)
}

/// `podspan.dev/containers`.
fn wrong_names() -> Vec<String> {
    let before = text("the annotation podspan.dev/containers: ");
    vec![
        when(
            "variables.names.exists(n, n == \"\")",
            &format!("{before} + \"it has an empty entry\""),
        ),
        Place::annotation().wrong(
            "containers",
            &format!("size(v) > {LONGEST_NAMES}"),
            ", which is too long",
        ),
        when(
            "variables.names.transformList(i, n, variables.names.indexOf(n) != i, n) != []",
            &format!("{before} + \"a name is in the list twice\""),
        ),
        format!(
            "variables.names.filter(n, n != \"\" && !variables.containers.exists(c, c.name == n))\n  \
             .map(n, {before} + \"the pod has no container \" + {} + \"; it has \" +\n    \
             variables.containers.map(c, string(c.name)).join(\", \"))",
            shown("n")
        ),
        format!(
            "variables.names.filter(n, variables.containers.exists(c,\n    \
             c.name == n && size(c.?ports.orValue([])) == 0))\n  \
             .map(n, {before} + \"the container \" + n +\n    \
             \" declares no ports; add them to its ports, or use podspan.dev/filter\")"
        ),
        when(
            "size(variables.names) > 0 && variables.followed && \"podspan.dev/filter\" in variables.annotations",
            &format!(
                "\n  \"the pod has the annotations podspan.dev/containers and podspan.dev/filter, and podspan uses \
                 the second in the place of the first. \" +\n  \
                 \"Remove podspan.dev/containers, and join both in podspan.dev/filter. Or add \
                 podspan.dev/annotations: {}\"",
                "\\\"off\\\""
            ),
        ),
    ]
}

/// A volume of the name of podspan's that no container of podspan mounts.
fn foreign_volume() -> String {
    let list = |field: &str| format!("variables.pod.spec.?{field}.orValue([])");
    let volume = text(tunnel::VOLUME);
    let condition = format!(
        "variables.tunnelSecret != \"\" && {}.exists(v, v.name == {volume}) &&\n  \
         !({} + {}).exists(c, c.name == \"podspan\" &&\n    \
         c.?volumeMounts.orValue([]).exists(m, m.name == {volume} && m.mountPath == {}))",
        list("volumes"),
        list("initContainers"),
        list("containers"),
        text(tunnel::PATH),
    );
    let reason = crate::Reason::ForeignVolume {
        why: "podspan's container does not mount it".to_owned(),
    };
    when(&condition, &text(&reason.to_string()))
}

pub(super) fn wrong_pod() -> String {
    let list = |field: &str| format!("variables.pod.spec.?{field}.orValue([])");
    let own = "c.?env.orValue([]).exists(e, e.name == \"POD_UID\" &&\n    \
         e.?valueFrom.?fieldRef.?fieldPath.orValue(\"\") == \"metadata.uid\")";
    let foreign = |field: &str, more: &str| {
        when(
            &format!(
                "{}.exists(c, c.name == \"podspan\" && !({own}{more}))",
                list(field)
            ),
            &text(&format!(
                "spec.{field} has a container named podspan that podspan did not add. Rename or remove it"
            )),
        )
    };
    joined(&[
        when(
            "!(\"podspan.dev/host-network\" in variables.annotations) &&\n  \
             variables.pod.spec.?hostNetwork.orValue(false)",
            &text(&crate::Reason::HostNetwork.to_string()),
        ),
        when(
            "variables.pod.spec.?os.?name.orValue(\"\") == \"windows\" ||\n  \
             variables.pod.spec.?nodeSelector[?\"kubernetes.io/os\"].orValue(\"\") == \"windows\"",
            &text(&crate::Reason::Windows.to_string()),
        ),
        when(
            "variables.labels[?\"run\"].orValue(\"\") == variables.sensor.trim()",
            "\"the pod is a sensor of its own podspan: its label run is \" + strings.quote(variables.sensor.trim()) +\n  \
             \". Rename the label, or choose another sensor with podspan.dev/sensor\"",
        ),
        foreign(
            "initContainers",
            " && c.?restartPolicy.orValue(\"\") == \"Always\"",
        ),
        foreign("containers", ""),
        foreign("ephemeralContainers", " && false"),
        foreign_volume(),
    ])
}
