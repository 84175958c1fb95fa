//! What the policies compute from a pod, as variables of CEL.
//!
//! In: the table of settings. Out: [`Variable`]s in the order of their use: each names only those before it.
//! They say in CEL what [`crate::annotations`], [`crate::ports`] and [`crate::pod`] say in Rust; the tests against
//! an API server compare the two. The API server computes a variable when it is first used, once for each object.
//!
//! Two checks of the injection are missing, because CEL cannot make them: whether a filter compiles, and what no
//! pattern of a setting can say. podspan makes both when it starts.

use crate::policy::cel::{shown, text, texts};
use crate::policy::{CONFIG_MAP, NAMESPACE};
use crate::setting::{OTHER, PREFIX, Setting};
use crate::sidecar::{BASE, NAME};

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

/// A quantity as `crate::quantity` reads it.
const QUANTITY: &str = "[+]?([0-9]{1,15}[.]?[0-9]{0,9}|[.][0-9]{1,9})\
     (n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+]?[0-9]|[eE][+]?1[0-8]|[eE]-[1-9])?";

/// A plain name of an image, as `crate::annotations` asks for it.
const IMAGE: &str = "^[A-Za-z0-9]([-A-Za-z0-9_./:@]*[A-Za-z0-9])?$";

/// A filter: printable, in any number of lines.
const FILTER: &str = r"^[\P{C}\n\t]*$";

/// The longest value, and the longest list of names. The API server stops an expression that costs too much, and
/// matching long texts does.
const LONGEST: usize = 4096;
const LONGEST_NAMES: usize = 2048;

/// The request, the limit, the least limit and the annotation of each resource.
const AMOUNTS: [(&str, &str, &str, &str); 2] = [
    ("cpu", "50m", "250m", "10m"),
    ("memory", "32Mi", "256Mi", "16Mi"),
];

/// The parameters that are no settings.
const OTHER_PARAMETERS: [&str; 5] = ["image", "security", "cpu", "memory", "filter"];

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
            wrong_parameters(),
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
        "wrongAnnotations",
        "What is wrong with the annotations. The pod is not changed then.",
        wrong_annotations(),
    ));
    variables.push(variable(
        "wrongPod",
        "Why podspan cannot be in the pod.",
        wrong_pod(),
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
        let annotation = setting.and_then(Setting::annotation);
        let expression = match annotation
            .as_deref()
            .and_then(|name| name.strip_prefix(PREFIX))
        {
            Some(annotation) => effective(annotation, value),
            None => text(value),
        };
        variables.push(variable(name, "", expression));
    }
    for (name, request, limit, _) in AMOUNTS {
        variables.push(variable(
            name,
            "The request, and the limit after a slash.",
            effective(name, &format!("{request}/{limit}")),
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
        let annotation = setting.annotation()?;
        let name = annotation.strip_prefix(PREFIX)?;
        let (pattern, expected, example) = accepted(setting);
        Some(format!(
            "  {{\"name\": {}, \"variable\": {},\n   \"pattern\": {},\n   \"expected\": {},\n   \"example\": {}}}",
            text(name),
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
    fn amount(&self, (name, request, limit, least): (&str, &str, &str, &str)) -> [String; 3] {
        let is_quantity = format!(
            "size(v) < 100 && v.matches({}) && v.split(\"/\").all(q, isQuantity(q))",
            text(&format!("^{QUANTITY}(/{QUANTITY})?$"))
        );
        let [least_limit, request_value, limit_value] = [
            format!("quantity({})", text(least)),
            format!("quantity({})", amount("v", false)),
            format!("quantity({})", amount("v", true)),
        ];
        let example = format!(". Example: {}{name}: {request}/{limit}", self.prefix);
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

fn wrong_parameters() -> String {
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
    ];
    for row in AMOUNTS {
        parts.extend(place.amount(row));
    }
    joined(&parts)
}

fn wrong_annotations() -> String {
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
    for row in AMOUNTS {
        parts.extend(place.amount(row));
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

fn wrong_pod() -> String {
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
    ])
}
