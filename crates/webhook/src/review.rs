//! An `AdmissionReview` of `admission.k8s.io/v1` and its answer. No I/O.
//!
//! In: the body of a request. Out: the body of the answer, and what to count and log. Every answer admits the
//! object. The answer has a patch if podspan is added to the pod, and warnings with the reasons if the pod is
//! refused. A body that is no review has no answer: the API server then does what `failurePolicy: Ignore` says.
//!
//! The API server asks only about pods that its selectors select. The labels of the namespace are not in a
//! request, so the opt-in is checked here as far as the pod and the namespace's name go.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use inject::{EXCLUDED, LABEL, Options, Refused};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

const VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// podspan is added, or brought up to date.
    Injected,
    /// podspan is in the pod already.
    Unchanged,
    /// The pod stays without podspan, for these reasons.
    Refused(Refused),
    /// The pod did not opt in.
    NotOptedIn,
    /// The request is not about a new pod.
    Unexpected,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The answer's body.
    pub body: Vec<u8>,
    /// What it says.
    pub outcome: Outcome,
    /// The pod's namespace and name, printable.
    pub pod: String,
}

/// The body is not a review that can be answered.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the error texts describe the variants")]
pub enum Malformed {
    #[error("the body is not a review in JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the body is not an AdmissionReview of admission.k8s.io/v1")]
    Version,
    #[error("the AdmissionReview has no request")]
    NoRequest,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Request>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(default)]
    resource: Resource,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    object: Value,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Resource {
    group: String,
    version: String,
    #[serde(rename = "resource")]
    name: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Answers a review.
///
/// # Errors
/// When the body is not a review of this version with a request.
pub fn answer(body: &[u8], options: &Options<'_>) -> Result<Answer, Malformed> {
    let review: Review = serde_json::from_slice(body)?;
    if review.api_version != VERSION || review.kind != KIND {
        return Err(Malformed::Version);
    }
    let request = review.request.ok_or(Malformed::NoRequest)?;
    let (outcome, patch) = decide(&request, options);
    let warnings = match &outcome {
        Outcome::Refused(refused) => refused.reasons.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    };
    let warning = |reason: String| format!("podspan is not injected: {reason}");
    let patch = patch.map(|operations| STANDARD.encode(Value::from(operations).to_string()));
    let response = Response {
        uid: &request.uid,
        allowed: true,
        patch_type: patch.as_ref().map(|_| "JSONPatch"),
        patch,
        warnings: warnings.into_iter().map(warning).collect(),
    };
    let body = json!({"apiVersion": VERSION, "kind": KIND, "response": response});
    Ok(Answer {
        body: body.to_string().into_bytes(),
        outcome,
        pod: pod_name(&request),
    })
}

fn decide(request: &Request, options: &Options<'_>) -> (Outcome, Option<Vec<Value>>) {
    if !is_new_pod(request) {
        return (Outcome::Unexpected, None);
    }
    if !may_opt_in(request) {
        return (Outcome::NotOptedIn, None);
    }
    match inject::patch(&request.object, options) {
        Ok(operations) if operations.is_empty() => (Outcome::Unchanged, None),
        Ok(operations) => (Outcome::Injected, Some(operations)),
        Err(refused) => (Outcome::Refused(refused), None),
    }
}

fn is_new_pod(request: &Request) -> bool {
    let Resource {
        group,
        version,
        name,
    } = &request.resource;
    (group.as_str(), version.as_str(), name.as_str()) == ("", "v1", "pods")
        && request.sub_resource.is_empty()
        && request.operation == "CREATE"
}

fn may_opt_in(request: &Request) -> bool {
    let labels = &request.object["metadata"]["labels"];
    labels[LABEL] != "false" && !EXCLUDED.contains(&request.namespace.as_str())
}

fn pod_name(request: &Request) -> String {
    let metadata = &request.object["metadata"];
    let text = |field: &str| metadata[field].as_str().filter(|text| !text.is_empty());
    let name = text("name").or_else(|| text("generateName"));
    let name = printable(name.unwrap_or_default());
    format!("{}/{name}", printable(&request.namespace))
}

/// A name with only printable ASCII, and not longer than a name of Kubernetes.
#[must_use]
pub fn printable(text: &str) -> String {
    let characters = text.chars().take(253);
    characters
        .map(|character| match character {
            '!'..='~' => character,
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options<'static> {
        Options::new(&[], |_| Ok(()))
    }

    fn review(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut review = json!({
            "apiVersion": VERSION, "kind": KIND,
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "operation": "CREATE", "namespace": "shop", "oldObject": null,
                "object": {
                    "metadata": {"generateName": "web-", "labels": {LABEL: "true"}},
                    "spec": {"containers": [{"name": "web"}]},
                },
            },
        });
        change(&mut review["request"]);
        review.to_string().into_bytes()
    }

    fn outcome(change: impl FnOnce(&mut Value)) -> Outcome {
        let answer = answer(&review(change), &options()).unwrap();
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["response"]["allowed"], true);
        let patched = answer.outcome == Outcome::Injected;
        assert_eq!(body["response"].get("patch").is_some(), patched);
        assert_eq!(body["response"].get("patchType").is_some(), patched);
        answer.outcome
    }

    #[test]
    fn a_new_pod_gets_a_patch_and_the_answer_the_uid_of_the_request() {
        let answer = answer(&review(|_| ()), &options()).unwrap();
        assert_eq!(answer.outcome, Outcome::Injected);
        assert_eq!(answer.pod, "shop/web-");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            (&body["apiVersion"], &body["kind"]),
            (&json!(VERSION), &json!(KIND))
        );
        let response = &body["response"];
        assert_eq!(response["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = STANDARD
            .decode(response["patch"].as_str().unwrap())
            .unwrap();
        let patch: Value = serde_json::from_slice(&patch).unwrap();
        assert_eq!(patch[0]["path"], "/spec/initContainers");
        assert!(response.get("warnings").is_none(), "{response}");
    }

    #[test]
    fn everything_but_a_new_pod_is_unexpected() {
        let changes: [fn(&mut Value); 6] = [
            |request| request["operation"] = "UPDATE".into(),
            |request| request["operation"] = Value::from("DELETE"),
            |request| request["resource"]["resource"] = "services".into(),
            |request| request["resource"]["group"] = "apps".into(),
            |request| request["subResource"] = "ephemeralcontainers".into(),
            |request| request["resource"] = json!({}),
        ];
        for change in changes {
            assert_eq!(outcome(change), Outcome::Unexpected);
        }
    }

    #[test]
    fn a_pod_that_opts_out_and_a_namespace_of_the_system_are_not_opted_in() {
        let opted_out = |request: &mut Value| {
            request["object"]["metadata"]["labels"][LABEL] = "false".into();
        };
        assert_eq!(outcome(opted_out), Outcome::NotOptedIn);
        for namespace in EXCLUDED {
            let there = |request: &mut Value| request["namespace"] = namespace.into();
            assert_eq!(outcome(there), Outcome::NotOptedIn);
        }
        let by_namespace =
            |request: &mut Value| request["object"]["metadata"]["labels"] = json!({});
        assert_eq!(outcome(by_namespace), Outcome::Injected);
    }

    #[test]
    fn the_reasons_of_a_refusal_are_warnings() {
        let wrong = review(|request| {
            request["object"]["spec"]["hostNetwork"] = true.into();
            request["object"]["metadata"]["annotations"] = json!({"podspan.dev/senser": "a"});
        });
        let answer = answer(&wrong, &options()).unwrap();
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let warnings = body["response"]["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        for (warning, words) in warnings.iter().zip(["podspan.dev/senser", "hostNetwork"]) {
            let warning = warning.as_str().unwrap();
            assert!(
                warning.starts_with("podspan is not injected: "),
                "{warning}"
            );
            assert!(warning.contains(words), "{warning}");
        }
        assert!(matches!(answer.outcome, Outcome::Refused(_)));
    }

    #[test]
    fn what_is_no_review_of_this_version_has_no_answer() {
        for body in ["", "{", "[]", "null", "{}", r#"{"apiVersion":1}"#] {
            assert!(answer(body.as_bytes(), &options()).is_err(), "{body}");
        }
        let old = json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": KIND, "request": {"uid": "a"}});
        let error = answer(old.to_string().as_bytes(), &options()).unwrap_err();
        assert!(matches!(error, Malformed::Version), "{error}");
        let none = json!({"apiVersion": VERSION, "kind": KIND});
        let error = answer(none.to_string().as_bytes(), &options()).unwrap_err();
        assert!(matches!(error, Malformed::NoRequest), "{error}");
        // Deeper than any object of Kubernetes, and deep enough to end a stack.
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let body = String::from_utf8(review(|_| ())).unwrap();
        let deep = body.replace("\"web-\"", &deep);
        assert!(answer(deep.as_bytes(), &options()).is_err());
    }

    #[test]
    fn a_foreign_name_is_printable() {
        assert_eq!(printable("web-1\n\u{202e}x"), "web-1??x");
        assert_eq!(printable(&"a".repeat(1000)).len(), 253);
    }
}
