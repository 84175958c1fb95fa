//! What the operator can do about a failure: a text for each, with the names and files at hand.
//!
//! Pure: a [`Failure`] and where we were asking ([`Asking`]) in, one text out. The Role and binding
//! printed for a 403 are those of `manifests/rbac`, for this namespace and this service account.
//!
//! Invariant: a text is one printable line of bounded length whatever the failure and the settings
//! hold. For a 403 it is that line and those of the YAML, as many as for any other names; a reader of
//! YAML finds each name as it was, or no text at all where it is too long to be printed or could not be
//! read.

use std::fmt::Write as _;

use crate::failure::{Failure, User, Verb};
use crate::foreign::{Foreign, is_printable, is_short};

/// Where and for what the API server was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asking {
    /// Its URL.
    pub(crate) server: String,
    /// The file of the CA that it is checked against, if it is one.
    pub(crate) ca: Option<String>,
    /// Where our credentials are: a token's file or a kubeconfig.
    pub(crate) credentials: String,
    /// The label's value.
    pub(crate) name: String,
    /// The namespace that is watched; none: all.
    pub(crate) namespace: Option<String>,
    /// Our own pod's namespace, for a service account that no message names.
    pub(crate) own_namespace: String,
}

impl Asking {
    /// `pods labelled run=zeek in namespace shop`.
    pub(crate) fn wanted(&self) -> String {
        let name = Foreign(&self.name);
        match self.namespace.as_deref().map(Foreign) {
            Some(namespace) => format!("pods labelled run={name} in namespace {namespace}"),
            None => format!("pods labelled run={name} in all namespaces"),
        }
    }
}

/// What happened and what to do.
pub(crate) fn remedy(failure: &Failure, asking: &Asking) -> String {
    let (server, credentials) = (Foreign(&asking.server), Foreign(&asking.credentials));
    let ca = asking.ca.as_deref().unwrap_or("the kubeconfig");
    match failure {
        Failure::Credentials { reason } => format!(
            "there are no usable credentials for the API server: {}. In a pod, \
             automountServiceAccountToken must not be false; elsewhere KUBECONFIG must name a \
             kubeconfig",
            Foreign(reason)
        ),
        Failure::Unauthorized => format!(
            "the API server {server} does not accept our credentials (401): the token is expired, \
             of another cluster, or its pod or service account is gone. They are read again from \
             {credentials} at each attempt; see that it holds a current token"
        ),
        Failure::Forbidden { verb, user } => forbidden(*verb, user.as_ref(), asking),
        Failure::NotFound { message } => format!(
            "{server} answers 404 to a request for pods ({}): this address is not a \
             Kubernetes API server, or a proxy before it does not pass /api/v1 on",
            Foreign(message)
        ),
        Failure::Gone => "the API server has forgotten what came after our last list; a new list \
                          follows"
            .to_owned(),
        Failure::Throttled { code, after } => format!(
            "the API server {server} asks to come back {} ({code}): it is overloaded, or a \
             FlowSchema leaves our service account too little",
            after.map_or_else(|| "later".to_owned(), |after| format!("in {after:?}"))
        ),
        Failure::Unsupported { message } => {
            format!(
                "the API server {server} does not understand the request for pods ({}): see that \
                 this is the address of a Kubernetes API server, and that no proxy before it \
                 changes requests",
                Foreign(message)
            )
        }
        Failure::Server { code, message } => format!(
            "the API server {server} fails ({code}: {}): see its own log and etcd's health",
            Foreign(message)
        ),
        Failure::UnknownHost { reason } => format!(
            "the name of the API server {server} cannot be resolved ({}): see the server in \
             the kubeconfig and this pod's dnsPolicy",
            Foreign(reason)
        ),
        Failure::Unreachable { reason } => format!(
            "the API server {server} cannot be reached ({}): it is down, or a network policy \
             keeps this pod from it",
            Foreign(reason)
        ),
        Failure::TimedOut { doing } => format!(
            "the API server {server} does not answer: waited in vain for {doing}. It hangs, or a \
             network policy or firewall drops the packets"
        ),
        Failure::Certificate { reason } => format!(
            "the certificate of the API server {server} is not trusted ({}): the CA in {} \
             did not sign it, the name in it is another, or a clock is wrong",
            Foreign(reason),
            Foreign(ca)
        ),
        Failure::Cut { reason } => {
            let reason = Foreign(reason);
            format!("the connection to the API server {server} was cut ({reason})")
        }
        Failure::Unexpected { reason } => {
            let reason = Foreign(reason);
            format!("the request for pods to the API server {server} failed: {reason}")
        }
    }
}

fn forbidden(verb: Verb, user: Option<&User>, asking: &Asking) -> String {
    let verb = verb.word();
    let wanted = asking.wanted();
    let who = match user {
        Some(User::ServiceAccount { namespace, name }) => {
            let (namespace, name) = (Foreign(namespace), Foreign(name));
            format!("the service account {name} of namespace {namespace}")
        }
        Some(User::Other(name)) => format!("the user {:?}", Foreign(name)),
        Some(User::Unreadable) => "a user whose name cannot be read here".to_owned(),
        None => "our service account".to_owned(),
    };
    format!(
        "the API server does not allow {who} to {verb} {wanted} (403): the verb {verb} is missing. \
         Apply this:\n{}",
        rbac(user, asking)
    )
}

/// The least that podspan needs, as YAML for `kubectl apply -f -`.
fn rbac(user: Option<&User>, asking: &Asking) -> String {
    let (prefix, namespace) = match &asking.namespace {
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
        None => account(&asking.own_namespace, "default"),
    };
    yaml.push_str(&subject);
    yaml
}

/// A YAML scalar: plain where it cannot be taken for anything but a name, else in double quotes with
/// the escapes of YAML 1.2, section 5.7. A name that is too long to be printed becomes a list: its
/// beginning may be the name of somebody else, and where a text belongs nothing accepts a list.
fn quoted(text: &str) -> String {
    if !is_short(text) {
        return "[too long to be printed; write the whole name here]".to_owned();
    }
    let plain = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    // What YAML readers take for truth values or nothing.
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
    use crate::foreign::is_short;
    use crate::foreign::testing::any_text;

    fn asking(namespace: Option<&str>) -> Asking {
        Asking {
            server: "https://10.0.0.1:443/".to_owned(),
            ca: Some("/run/ca.crt".to_owned()),
            credentials: "/run/token".to_owned(),
            name: "zeek".to_owned(),
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

    /// The two documents that a text for a 403 ends with.
    fn documents(user: Option<User>, namespace: Option<&str>) -> Vec<Value> {
        let verb = Verb::List;
        let text = remedy(&Failure::Forbidden { verb, user }, &asking(namespace));
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
    fn an_unnamed_account_is_the_default_of_our_namespace() {
        let subjects = &documents(None, Some("ids"))[1]["subjects"];
        assert_eq!(subjects[0]["name"], "default");
        assert_eq!(subjects[0]["namespace"], "shop");
    }

    #[test]
    fn an_unreadable_user_is_asked_for() {
        let subjects = &documents(Some(User::Unreadable), Some("ids"))[1]["subjects"];
        assert_eq!(subjects[0]["kind"], "User");
        assert!(
            subjects[0]["name"].is_array(),
            "nothing accepts it as a name"
        );
    }

    #[test]
    fn texts_name_what_to_look_at() {
        let asking = asking(Some("shop"));
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
                Failure::TimedOut { doing: "a list" },
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
            let text = remedy(&failure, &asking);
            for word in words {
                assert!(text.contains(word), "{word:?} is not in {text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_user_of_any_name_stays_that_user(
            name in prop_oneof![any_text(), Just("yes".to_owned()), Just("1e3".to_owned())],
        ) {
            let subjects = &documents(Some(User::Other(name.clone())), None)[1]["subjects"];
            prop_assert_eq!(&subjects[0]["kind"], "User");
            if is_short(&name) {
                prop_assert_eq!(subjects[0]["name"].as_str(), Some(name.as_str()));
            } else {
                prop_assert!(subjects[0]["name"].is_array(), "nothing accepts it as a name");
            }
        }
    }
}
