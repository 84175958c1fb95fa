//! The objects of the policies as YAML.
//!
//! In: expressions of CEL. Out: the texts of files. Expressions are block scalars, whose lines need no quotes.

use crate::policy::cel::{indented, text, texts};
use crate::policy::variables::{self, Variable};
use crate::policy::{CONFIG_MAP, Version, mutation};
use crate::setting::Setting;
use crate::sidecar::IMAGE;
use crate::{EXCLUDED, LABEL, NAMESPACE};

const GENERATED: &str = "# Generated from crates/inject/src/policy. After a change there:\n\
     # GOLDEN=write cargo test -p acceptance --test injection files\n";

pub(super) fn kustomization(version: Version) -> String {
    let (name, _) = version.names();
    let needs = match version {
        Version::V1 => "# Kubernetes 1.36 and newer.\n",
        Version::V1Beta1 => {
            "# Kubernetes 1.34 and 1.35, with the API server's flags\n\
             # --feature-gates=MutatingAdmissionPolicy=true --runtime-config=admissionregistration.k8s.io/v1beta1=true.\n"
        }
    };
    format!(
        "{GENERATED}#\n\
         # podspan for the pods that opt in, by admission policies ({name}): no program runs in the cluster for it.\n\
         {needs}#\n\
         # 1. Set the image and your sensor in parameters.yaml, and apply the folder: kubectl apply -k .\n\
         # 2. Opt in: kubectl label namespace shop {LABEL}=true, or the same label on pods.\n\
         # 3. Restart the pods: kubectl -n shop rollout restart deployment. A policy acts up to 10 s after it is\n\
         #    applied or changed.\n\
         #\n\
         # To stop it for new pods: kubectl -n {NAMESPACE} delete configmap {CONFIG_MAP}. docs/injection.md has the rest.\n\
         apiVersion: kustomize.config.k8s.io/v1beta1\n\
         kind: Kustomization\n\
         resources:\n\
         - namespace.yaml\n\
         - parameters.yaml\n\
         - mutating.yaml\n\
         - validating.yaml\n"
    )
}

pub(super) fn namespace() -> String {
    format!(
        "{GENERATED}#\n\
         # The namespace of podspan's own objects. Its pods are never changed.\n\
         apiVersion: v1\n\
         kind: Namespace\n\
         metadata:\n  \
           name: {NAMESPACE}\n"
    )
}

pub(super) fn parameters() -> String {
    format!(
        "{GENERATED}#\n\
         # What the sidecars have in common. Who may change this ConfigMap chooses the image that runs in every pod\n\
         # that opts in: let nobody else write it.\n\
         #\n\
         # - image: No image is published yet; name yours.\n\
         # - security: added (an unprivileged user with NET_RAW added), baseline (for namespaces that enforce the\n\
         #   Pod Security level baseline, with containerd) or root; manifests/README.md compares them.\n\
         # - The name of an annotation without podspan.dev/: its value for pods without this annotation, for example\n\
         #   sensor: zeek, sensor-namespace: monitoring, cpu: 50m/250m or filter: not port 53. All values are texts:\n\
         #   write vni: \"26\".\n\
         # - tunnel-secret: the Secret with the keys of encrypted tunnels in the namespaces of the pods, for example\n\
         #   podspan-tunnel. A pod whose namespace has none starts without keys.\n\
         #\n\
         # If one of them is wrong, nothing is injected, and a warning names it.\n\
         apiVersion: v1\n\
         kind: ConfigMap\n\
         metadata:\n  \
           name: {CONFIG_MAP}\n  \
           namespace: {NAMESPACE}\n\
         data:\n  \
           image: {IMAGE}\n  \
           security: added\n  \
           sensor: sensor\n"
    )
}

pub(super) fn mutating(version: Version, settings: &[Setting]) -> String {
    let (api, _) = version.names();
    let mut all = vec![Variable {
        name: "pod",
        comment: "",
        expression: "dyn(object)".to_owned(),
    }];
    all.extend(variables::parameters("dyn(params)", settings));
    all.extend(variables::sidecar(settings));
    all.push(Variable {
        name: "security",
        comment: "",
        expression: mutation::security(),
    });
    all.push(Variable {
        name: "present",
        comment: "Whether the pod has a container of podspan's name already. It stays as it is then.",
        expression: mutation::present(),
    });
    let policy = format!(
        "{GENERATED}#\n\
         # Adds podspan's sidecar, as the first init container, to the pods that opt in, when they are created.\n\
         apiVersion: admissionregistration.k8s.io/{api}\n\
         kind: MutatingAdmissionPolicy\n\
         metadata:\n  \
           name: podspan\n\
         spec:\n  \
           # An error of the policy changes nothing, and keeps no pod from being created.\n  \
           failurePolicy: Ignore\n  \
           reinvocationPolicy: IfNeeded\n  \
           paramKind: {{apiVersion: v1, kind: ConfigMap}}\n  \
           matchConstraints:\n\
         {}\
         {}  \
           variables:\n\
         {}  \
           mutations:\n  \
           - patchType: JSONPatch\n    \
             jsonPatch:\n      \
               expression: |-\n\
         {}\n",
        excluded(),
        rules(&[("", "v1", &["pods"])], &["CREATE"]),
        listed(&all),
        indented(&mutation::patch(), 8),
    );
    let opted_in = |values: &str| {
        format!("      - {{key: {LABEL}, operator: NotIn, values: [\"{values}\"]}}\n")
    };
    let namespaces = format!(
        "    namespaceSelector:\n      matchLabels: {{{LABEL}: \"true\"}}\n    \
         objectSelector:\n      matchExpressions:\n{}",
        opted_in("false")
    );
    let pods = format!(
        "    namespaceSelector:\n      matchExpressions:\n{}    \
         objectSelector:\n      matchLabels: {{{LABEL}: \"true\"}}\n",
        opted_in("true")
    );
    let bind = |name, comment: &str, resources: String| {
        let matched = format!("  matchResources:\n{resources}");
        binding("Mutating", api, name, "podspan", comment, &matched)
    };
    [
        policy,
        bind(
            "podspan-namespaces",
            "The pods of namespaces that opt in, without those that opt out.",
            namespaces,
        ),
        bind("podspan-pods", "The pods that opt in elsewhere.", pods),
    ]
    .join("---\n")
}

/// The objects that the check is about: their group, version and resources.
const CHECKED: [(&str, &str, &[&str]); 3] = [
    ("", "v1", &["pods"]),
    (
        "apps",
        "v1",
        &["daemonsets", "deployments", "replicasets", "statefulsets"],
    ),
    ("batch", "v1", &["cronjobs", "jobs"]),
];

pub(super) fn validating(settings: &[Setting]) -> String {
    let deny = Check {
        name: "podspan-deny",
        comment: "Refuses wrong annotations of objects that opt in, where no controller made the object: who \
                  writes it reads the reason.",
        action: "Deny",
        conditions: "  matchConditions:\n  - name: no-controller\n    expression: \"!object.metadata\
                     .?ownerReferences.orValue([]).exists(o, o.?controller.orValue(false))\"\n",
        reasons: "variables.wrongLabel + variables.wrongAnnotations".to_owned(),
        message: "podspan: ",
    };
    let controlled =
        "dyn(object).metadata.?ownerReferences.orValue([]).exists(o, o.?controller.orValue(false))";
    let warn = Check {
        name: "podspan-warn",
        comment: "Warns where podspan is not injected: for the parameters, for the pod, and for annotations of \
                  objects that a controller made. These are not refused: a wrong annotation must not keep an \
                  application from running.",
        action: "Warn",
        conditions: "",
        reasons: format!(
            "variables.wrongParameters + variables.wrongPod +\n\
             ({controlled} ?\n  variables.wrongLabel + variables.wrongAnnotations : [])"
        ),
        message: "podspan is not injected: ",
    };
    let text = [
        deny.document(settings),
        warn.document(settings),
        parameters_check(settings),
    ];
    format!(
        "{GENERATED}#\n\
         # Names what is wrong with the annotations of pods that opt in, and with the parameters. Objects that are\n\
         # there are checked only if a change is about podspan's annotations or label.\n{}",
        text.join("---\n")
    )
}

/// One of the two checks of pods and their controllers.
struct Check {
    name: &'static str,
    comment: &'static str,
    action: &'static str,
    conditions: &'static str,
    reasons: String,
    message: &'static str,
}

impl Check {
    fn document(&self, settings: &[Setting]) -> String {
        let mut all = vec![Variable {
            name: "pod",
            comment: "The pod, or its template.",
            expression: variables::any_template("object"),
        }];
        all.extend(variables::parameters("dyn(params)", settings));
        all.extend(variables::sidecar(settings));
        all.extend(checked());
        all.push(Variable {
            name: "reasons",
            comment: "",
            expression: self.reasons.clone(),
        });
        all.push(message(self.message));
        let policy = format!(
            "{}\
             apiVersion: admissionregistration.k8s.io/v1\n\
             kind: ValidatingAdmissionPolicy\n\
             metadata:\n  \
               name: {}\n\
             spec:\n  \
               failurePolicy: Ignore\n  \
               paramKind: {{apiVersion: v1, kind: ConfigMap}}\n  \
               matchConstraints:\n\
             {}\
             {}\
             {}  \
               variables:\n\
             {}  \
               validations:\n  \
               - expression: \"!variables.checked || size(variables.reasons) == 0\"\n    \
                 messageExpression: variables.message\n",
            comment(self.comment, 0),
            self.name,
            excluded(),
            rules(&CHECKED, &["CREATE", "UPDATE"]),
            self.conditions,
            listed(&all),
        );
        let actions = format!("  validationActions: [{}]\n", self.action);
        let binding = binding("Validating", "v1", self.name, self.name, "", &actions);
        format!("{policy}---\n{binding}")
    }
}

/// Whether the object is checked.
fn checked() -> Vec<Variable> {
    let variable = |name, comment, expression: String| Variable {
        name,
        comment,
        expression,
    };
    let prefix = text(crate::PREFIX);
    let label = text(LABEL);
    vec![
        variable(
            "inject",
            "The label that opts in or out.",
            format!("string(variables.labels[?{label}].orValue(\"\"))"),
        ),
        variable(
            "wrongLabel",
            "",
            format!(
                "variables.inject in [\"\", \"true\", \"false\"] ? [] :\n  \
                 [\"the label {LABEL} is \" + strings.quote(variables.inject) + \", expected: true or false\"]"
            ),
        ),
        variable(
            "old",
            "The pod, or its template, before the change.",
            variables::any_template("oldObject"),
        ),
        variable(
            "oldAnnotations",
            "",
            "variables.old.?metadata.?annotations.orValue({})".to_owned(),
        ),
        variable(
            "checked",
            "New objects that opt in, and those whose label or annotations of podspan change.",
            format!(
                "(variables.inject == \"\" ?\n  \
                 namespaceObject.metadata.?labels[?{label}].orValue(\"\") == \"true\" :\n  \
                 variables.inject != \"false\") &&\n\
                 (request.operation == \"CREATE\" ||\n  \
                 variables.old.?metadata.?labels[?{label}].orValue(\"\") != variables.inject ||\n  \
                 variables.annotations.exists(k, k.startsWith({prefix}) &&\n    \
                 variables.oldAnnotations[?k] != optional.of(variables.annotations[k])) ||\n  \
                 variables.oldAnnotations.exists(k, k.startsWith({prefix}) && !(k in variables.annotations)))"
            ),
        ),
    ]
}

/// The message. The API server takes no more than 5 KiB of it.
fn message(before: &str) -> Variable {
    let all = "variables.reasons.join(\"; \")";
    Variable {
        name: "message",
        comment: "",
        expression: format!(
            "{} +\n(size({all}) > 1000 ? {all}.substring(0, 1000) + \"...\" : {all})",
            text(before)
        ),
    }
}

/// Refuses a wrong `ConfigMap`.
fn parameters_check(settings: &[Setting]) -> String {
    let mut all = variables::parameters("dyn(object)", settings);
    all.push(Variable {
        name: "reasons",
        comment: "",
        expression: "variables.wrongParameters".to_owned(),
    });
    all.push(message("podspan: "));
    let policy = format!(
        "{}\
         apiVersion: admissionregistration.k8s.io/v1\n\
         kind: ValidatingAdmissionPolicy\n\
         metadata:\n  \
           name: podspan-parameters\n\
         spec:\n  \
           failurePolicy: Ignore\n  \
           matchConstraints:\n    \
             namespaceSelector:\n      \
               matchLabels: {{kubernetes.io/metadata.name: {NAMESPACE}}}\n    \
             resourceRules:\n    \
             - apiGroups: [\"\"]\n      \
               apiVersions: [v1]\n      \
               operations: [CREATE, UPDATE]\n      \
               resources: [configmaps]\n      \
               resourceNames: [{CONFIG_MAP}]\n  \
           variables:\n\
         {}  \
           validations:\n  \
           - expression: |-\n      \
               request.operation == \"UPDATE\" && object.?data == oldObject.?data || size(variables.reasons) == 0\n    \
             messageExpression: variables.message\n",
        comment("Refuses a ConfigMap of parameters that is wrong.", 0),
        listed(&all),
    );
    let binding = "apiVersion: admissionregistration.k8s.io/v1\n\
         kind: ValidatingAdmissionPolicyBinding\n\
         metadata:\n  \
           name: podspan-parameters\n\
         spec:\n  \
           policyName: podspan-parameters\n  \
           validationActions: [Deny]\n";
    format!("{policy}---\n{binding}")
}

fn binding(kind: &str, api: &str, name: &str, policy: &str, about: &str, rest: &str) -> String {
    format!(
        "{}\
         apiVersion: admissionregistration.k8s.io/{api}\n\
         kind: {kind}AdmissionPolicyBinding\n\
         metadata:\n  \
           name: {name}\n\
         spec:\n  \
           policyName: {policy}\n  \
           # Without the ConfigMap, nothing is injected.\n  \
           paramRef: {{name: {CONFIG_MAP}, namespace: {NAMESPACE}, parameterNotFoundAction: Allow}}\n\
         {rest}",
        comment(about, 0)
    )
}

fn excluded() -> String {
    format!(
        "    namespaceSelector:\n      matchExpressions:\n      \
         - key: kubernetes.io/metadata.name\n        operator: NotIn\n        values: [{}]\n",
        EXCLUDED.join(", ")
    )
}

fn rules(rules: &[(&str, &str, &[&str])], operations: &[&str]) -> String {
    let operations = operations.join(", ");
    let rules = rules.iter().map(|(group, version, resources)| {
        format!(
            "    - apiGroups: {}\n      apiVersions: [{version}]\n      operations: [{operations}]\n      \
             resources: [{}]\n",
            texts([*group]),
            resources.join(", ")
        )
    });
    format!("    resourceRules:\n{}", rules.collect::<String>())
}

fn listed(variables: &[Variable]) -> String {
    let entries = variables.iter().map(|variable| {
        format!(
            "{}  - name: {}\n    expression: |-\n{}\n",
            comment(variable.comment, 2),
            variable.name,
            indented(&variable.expression, 6)
        )
    });
    entries.collect()
}

/// A text in lines of comments.
fn comment(text: &str, indent: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < 105 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{}# {word}", " ".repeat(indent))),
        }
    }
    lines.push(String::new());
    lines.join("\n")
}
