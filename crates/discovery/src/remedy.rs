//! What the operator can do about a failure: a text for each.
//!
//! In: a [`Failure`] and the [`Target`] of the request. Out: one text, with the names and files that it
//! is about. For a 403 it has the Role and binding of `manifests/rbac`, for this namespace and this
//! service account.
//!
//! Invariant: a text is one printable line of limited length, whatever texts the failure and the
//! settings have. For a 403 it is that line and the lines of the YAML, whose number does not depend on
//! the names. A YAML reader gets each name exactly. If the name is too long to be printed or could not
//! be read, it gets a list, not a text.

use std::fmt::Write as _;

use crate::failure::{Failure, User, Verb};
use settings::foreign::{Foreign, is_printable, is_short};

/// Which pods the API server selects. It does not send others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    /// The pods with the label `run=<name>`: the sensors.
    Sensors(String),
    /// The pod with this name: podspan's own.
    OwnPod(String),
}

impl Selected {
    /// The label selector.
    pub(crate) fn label(&self) -> Option<String> {
        match self {
            Self::Sensors(name) => Some(format!("run={name}")),
            Self::OwnPod(_) => None,
        }
    }

    /// The field selector.
    pub(crate) fn field(&self) -> Option<String> {
        match self {
            Self::Sensors(_) => None,
            Self::OwnPod(name) => Some(format!("metadata.name={name}")),
        }
    }
}

/// Which pods are watched, and at which API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its URL.
    pub(crate) server: String,
    /// The file of the CA that must have signed its certificate, if there is one.
    pub(crate) ca: Option<String>,
    /// Where podspan's credentials are: a token's file or a kubeconfig.
    pub(crate) credentials: String,
    /// Which pods.
    pub(crate) selected: Selected,
    /// The namespace that is watched; none: all.
    pub(crate) namespace: Option<String>,
    /// The namespace of podspan's pod, for a service account that no message names.
    pub(crate) own_namespace: String,
}

impl Target {
    /// `pods labelled run=zeek in namespace shop`, or `pod cart-1 in namespace shop`.
    pub(crate) fn pods(&self) -> String {
        let pods = match &self.selected {
            Selected::Sensors(name) => format!("pods labelled run={}", Foreign(name)),
            Selected::OwnPod(name) => format!("pod {}", Foreign(name)),
        };
        match self.namespace.as_deref().map(Foreign) {
            Some(namespace) => format!("{pods} in namespace {namespace}"),
            None => format!("{pods} in all namespaces"),
        }
    }

    /// Whether these are the sensors.
    pub(crate) const fn are_sensors(&self) -> bool {
        matches!(self.selected, Selected::Sensors(_))
    }

    /// The target for a pod of podspan's own, for tests.
    #[cfg(test)]
    pub(crate) fn own_pod(name: &str) -> Self {
        Self {
            server: "https://10.0.0.1:443/".to_owned(),
            ca: None,
            credentials: "/run/token".to_owned(),
            selected: Selected::OwnPod(name.to_owned()),
            namespace: Some("shop".to_owned()),
            own_namespace: "shop".to_owned(),
        }
    }
}

/// What happened and what to do.
pub(crate) fn remedy(failure: &Failure, target: &Target) -> String {
    let (server, credentials) = (Foreign(&target.server), Foreign(&target.credentials));
    let ca = target.ca.as_deref().unwrap_or("the kubeconfig");
    match failure {
        Failure::Credentials { reason } => format!(
            "there are no usable credentials for the API server: {}. In a pod, \
             automountServiceAccountToken must not be false; outside a cluster, KUBECONFIG must name \
             a kubeconfig",
            Foreign(reason)
        ),
        Failure::Unauthorized => format!(
            "the API server {server} does not accept podspan's credentials (401): the token has \
             expired or is of another cluster, or its pod or service account was deleted. podspan \
             reads {credentials} again at each attempt; check that it has a current token"
        ),
        Failure::Forbidden { verb, user } => forbidden(*verb, user.as_ref(), target),
        Failure::NotFound { message } => format!(
            "{server} answers 404 to a request for pods ({}): this address is not a Kubernetes API \
             server, or a proxy in front of it does not forward /api/v1; correct the address or the \
             proxy",
            Foreign(message)
        ),
        Failure::Gone => "the API server no longer has the events since the last list; podspan \
                          requests a new list. If this lasts, check etcd's health"
            .to_owned(),
        Failure::Throttled { code, after } => format!(
            "the API server {server} asks podspan to try again {} ({code}): it is overloaded, or a \
             FlowSchema allows podspan's service account too few requests. If this lasts, check both",
            after.map_or_else(|| "later".to_owned(), |after| format!("in {after:?}"))
        ),
        Failure::Unsupported { message } => {
            format!(
                "the API server {server} does not understand the request for pods ({}): check that \
                 this is the address of a Kubernetes API server, and that no proxy in front of it \
                 changes requests",
                Foreign(message)
            )
        }
        Failure::Server { code, message } => format!(
            "the API server {server} fails ({code}: {}): check its log and etcd's health",
            Foreign(message)
        ),
        Failure::UnknownHost { reason } => format!(
            "the name of the API server {server} cannot be resolved ({}): check the server in \
             the kubeconfig and this pod's dnsPolicy",
            Foreign(reason)
        ),
        Failure::Unreachable { reason } => format!(
            "the API server {server} cannot be reached ({}): it is down, or a network policy \
             blocks this pod. Check both",
            Foreign(reason)
        ),
        Failure::TimedOut { waiting_for } => format!(
            "the API server {server} does not answer: {waiting_for} did not come in time. It hangs, \
             or a network policy or firewall drops the packets. Check both"
        ),
        Failure::Certificate { reason } => format!(
            "the certificate of the API server {server} is not trusted ({}): the CA in {} \
             did not sign it, it is for another name, or a clock is wrong. Correct the CA, the \
             address or the clock",
            Foreign(reason),
            Foreign(ca)
        ),
        Failure::Disconnected { reason } => {
            let reason = Foreign(reason);
            format!(
                "the connection to the API server {server} was cut ({reason}); podspan connects \
                 again. If this lasts, check the API server and the network"
            )
        }
        Failure::Unexpected { reason } => {
            let reason = Foreign(reason);
            format!(
                "the request for pods to the API server {server} failed: {reason}; podspan tries \
                 again. If this lasts, check the API server's log"
            )
        }
    }
}

fn forbidden(verb: Verb, user: Option<&User>, target: &Target) -> String {
    let verb = verb.as_str();
    let pods = target.pods();
    let who = match user {
        Some(User::ServiceAccount { namespace, name }) => {
            let (namespace, name) = (Foreign(namespace), Foreign(name));
            format!("the service account {name} of namespace {namespace}")
        }
        Some(User::Other(name)) => format!("the user {:?}", Foreign(name)),
        Some(User::Unreadable) => "a user whose name cannot be read here".to_owned(),
        None => "podspan's service account".to_owned(),
    };
    let refused = format!(
        "the API server does not allow {who} to {verb} {pods} (403): the verb {verb} is missing"
    );
    if target.are_sensors() {
        format!("{refused}. Apply this:\n{}", rbac(user, target))
    } else {
        // Many pods do not need this right, so it is not worth a page of YAML.
        format!("{refused}. The Role of manifests/rbac/own-namespace allows it")
    }
}

/// The rights that podspan needs, as YAML for `kubectl apply -f -`.
fn rbac(user: Option<&User>, target: &Target) -> String {
    let (prefix, namespace) = match &target.namespace {
        Some(namespace) => ("", format!("\n  namespace: {}", quoted(namespace))),
        None => ("Cluster", String::new()),
    };
    let mut yaml = format!(
        "apiVersion: rbac.authorization.k8s.io/v1
kind: {prefix}Role
metadata:
  name: podspan-discovery{namespace}
rules:
- apiGroups: [\"\"]
  resources: [pods]
  verbs: [list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {prefix}RoleBinding
metadata:
  name: podspan-discovery{namespace}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {prefix}Role
  name: podspan-discovery
subjects:
"
    );
    let account = |namespace: &str, name: &str| {
        format!(
            "- kind: ServiceAccount\n  name: {}\n  namespace: {}",
            quoted(name),
            quoted(namespace)
        )
    };
    let other =
        |name: &str| format!("- apiGroup: rbac.authorization.k8s.io\n  kind: User\n  name: {name}");
    let subject = match user {
        Some(User::ServiceAccount { namespace, name }) => account(namespace, name),
        Some(User::Other(name)) => other(&quoted(name)),
        Some(User::Unreadable) => other("[not readable; write the whole name here]"),
        None => account(&target.own_namespace, "default"),
    };
    yaml.push_str(&subject);
    yaml
}

/// A YAML scalar: plain if it can only be a name, else in double quotes with the escapes of YAML 1.2,
/// section 5.7. A name that is too long to be printed becomes a list, because its start may be the
/// name of another user, and a list is refused where a text is required.
fn quoted(text: &str) -> String {
    if !is_short(text) {
        return "[too long to be printed; write the whole name here]".to_owned();
    }
    let plain = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    // YAML readers accept these words as boolean values or null.
    let word = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&text);
    if plain && !word {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for character in text.chars() {
        // Writing to a string cannot fail.
        let _ = match (character, u32::from(character)) {
            ('"' | '\\', _) => write!(quoted, "\\{character}"),
            _ if is_printable(character) => write!(quoted, "{character}"),
            (_, code @ ..=0xffff) => write!(quoted, "\\u{code:04x}"),
            (_, code) => write!(quoted, "\\U{code:08x}"),
        };
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::foreign_testing::any_text;
    use settings::foreign::is_short;

    fn target(namespace: Option<&str>) -> Target {
        Target {
            server: "https://10.0.0.1:443/".to_owned(),
            ca: Some("/run/ca.crt".to_owned()),
            credentials: "/run/token".to_owned(),
            selected: Selected::Sensors("zeek".to_owned()),
            namespace: namespace.map(str::to_owned),
            own_namespace: "shop".to_owned(),
        }
    }

    fn cart() -> User {
        User::ServiceAccount {
            namespace: "shop".to_owned(),
            name: "cart".to_owned(),
        }
    }

    /// The two YAML documents at the end of a text for a 403.
    fn documents(user: Option<User>, namespace: Option<&str>) -> Vec<Value> {
        let verb = Verb::List;
        let text = remedy(&Failure::Forbidden { verb, user }, &target(namespace));
        let (before, yaml) = text.split_once('\n').unwrap();
        assert!(before.contains("the verb list is missing"), "{before}");
        assert!(before.contains("run=zeek"), "{before}");
        yaml.split("---\n")
            .map(|document| serde_saphyr::from_str(document).unwrap())
            .collect()
    }

    fn shipped(path: &str) -> Value {
        let path = format!("{}/../../manifests/rbac/{path}", env!("CARGO_MANIFEST_DIR"));
        serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn a_403_prints_the_shipped_role_for_this_namespace_and_account() {
        let documents = documents(Some(cart()), Some("ids"));
        let [role, binding] = documents.as_slice() else {
            panic!("{documents:?}");
        };
        assert_eq!(role["rules"], shipped("other-namespace/role.yaml")["rules"]);
        assert_eq!(role["metadata"]["namespace"], "ids");
        assert_eq!(binding["metadata"]["namespace"], "ids");
        let reference = &shipped("other-namespace/role-binding.yaml")["roleRef"];
        assert_eq!(&binding["roleRef"], reference);
        assert_eq!(binding["subjects"][0]["name"], "cart");
        assert_eq!(binding["subjects"][0]["namespace"], "shop");
    }

    #[test]
    fn for_all_namespaces_it_is_a_cluster_role() {
        let documents = documents(Some(cart()), None);
        assert_eq!(documents[0]["kind"], "ClusterRole");
        assert_eq!(documents[1]["kind"], "ClusterRoleBinding");
        assert!(documents[0]["metadata"].get("namespace").is_none());
        let reference = &shipped("all-namespaces/cluster-role-binding.yaml")["roleRef"];
        assert_eq!(&documents[1]["roleRef"], reference);
    }

    #[test]
    fn an_unnamed_account_is_the_default_of_the_own_namespace() {
        let subjects = &documents(None, Some("ids"))[1]["subjects"];
        assert_eq!(subjects[0]["name"], "default");
        assert_eq!(subjects[0]["namespace"], "shop");
    }

    #[test]
    fn the_yaml_names_no_user_that_could_not_be_read() {
        let subjects = &documents(Some(User::Unreadable), Some("ids"))[1]["subjects"];
        assert_eq!(subjects[0]["kind"], "User");
        assert!(
            subjects[0]["name"].is_array(),
            "a list is refused as a name"
        );
    }

    #[test]
    fn texts_name_what_to_check() {
        let target = target(Some("shop"));
        let reason = || "why".to_owned();
        for (failure, words) in [
            (Failure::Unauthorized, ["401", "/run/token"]),
            (
                Failure::Certificate { reason: reason() },
                ["/run/ca.crt", "why"],
            ),
            (
                Failure::Unreachable { reason: reason() },
                ["10.0.0.1:443", "network policy"],
            ),
            (
                Failure::TimedOut {
                    waiting_for: "a list",
                },
                ["a list", "firewall"],
            ),
            (
                Failure::Credentials { reason: reason() },
                ["why", "automountServiceAccountToken"],
            ),
            (
                Failure::Throttled {
                    code: 429,
                    after: None,
                },
                ["429", "FlowSchema"],
            ),
            (
                Failure::Server {
                    code: 500,
                    message: reason(),
                },
                ["500", "etcd"],
            ),
            (Failure::NotFound { message: reason() }, ["404", "/api/v1"]),
            (
                Failure::UnknownHost { reason: reason() },
                ["resolved", "dnsPolicy"],
            ),
        ] {
            let text = remedy(&failure, &target);
            for word in words {
                assert!(text.contains(word), "{word:?} is not in {text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_yaml_names_any_user_exactly(
            name in prop_oneof![any_text(), Just("yes".to_owned()), Just("1e3".to_owned())],
        ) {
            let subjects = &documents(Some(User::Other(name.clone())), None)[1]["subjects"];
            prop_assert_eq!(&subjects[0]["kind"], "User");
            if is_short(&name) {
                prop_assert_eq!(subjects[0]["name"].as_str(), Some(name.as_str()));
            } else {
                prop_assert!(subjects[0]["name"].is_array(), "a list is refused as a name");
            }
        }
    }
}
