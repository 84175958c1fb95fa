//! The API server with the policy, and requests to it.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use http::{Method, Request};
use inject::policy::Version;
use kube::Client;
use kube::client::Body;
use libtest_mimic::Failed;
use serde_json::{Value, json};
use testbed::kubernetes::{ControlPlane, Options};
use testbed::{Namespace, Release};

use crate::files::manifests;

/// A policy acts up to ten seconds after it is written; a busy machine needs longer.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The namespace that opts in.
pub(crate) const IN: &str = "shop";
/// One that does not.
pub(crate) const OUT: &str = "office";

/// The label that opts in or out.
pub(crate) const LABEL: &str = inject::LABEL;

/// The release of the API server.
pub(crate) fn release() -> Release {
    let Ok(name) = std::env::var("INJECTION_RELEASE") else {
        return Release::default();
    };
    let found = Release::ALL
        .into_iter()
        .find(|release| release.name() == name);
    found.unwrap_or_else(|| panic!("INJECTION_RELEASE is {name:?}, expected: 1.34, 1.35 or 1.36"))
}

/// The version of the API that it serves, and the flags that switch it on.
fn version() -> (Version, Vec<String>) {
    if release() == Release::V1_36 {
        return (Version::V1, Vec::new());
    }
    let flags = [
        "--feature-gates=MutatingAdmissionPolicy=true",
        "--runtime-config=admissionregistration.k8s.io/v1beta1=true",
    ];
    (Version::V1Beta1, flags.map(str::to_owned).to_vec())
}

pub(crate) struct Cluster {
    // The control plane ends before the network that it is in.
    pub(crate) plane: ControlPlane,
    namespace: Namespace,
}

/// An answer of the API server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    /// The object, if it was accepted.
    #[track_caller]
    pub(crate) fn accepted(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.body
    }

    /// The message, if it was refused.
    #[track_caller]
    pub(crate) fn refused(&self) -> &str {
        assert!(self.status >= 400, "{self:?}");
        self.body["message"].as_str().unwrap()
    }

    /// All warnings.
    pub(crate) fn warned(&self) -> String {
        self.warnings.join("\n")
    }
}

/// A client within a runtime.
#[derive(Clone)]
pub(crate) struct Api(Client);

impl Api {
    /// Sends an object. `dry` objects are not stored.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        object: &Value,
        dry: bool,
    ) -> Answer {
        let query = if dry { "?dryRun=All" } else { "" };
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}{query}"))
            .header("content-type", "application/json")
            .body(Body::from(object.to_string().into_bytes()))
            .unwrap();
        let response = self.0.send(request).await.unwrap();
        let status = response.status().as_u16();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings.map(|text| unquoted(&String::from_utf8_lossy(text.as_bytes())));
        let warnings = warnings.collect();
        let bytes = response.into_body().collect_bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap();
        Answer {
            status,
            body,
            warnings,
        }
    }

    /// What would be stored of a new pod.
    pub(crate) async fn dry(&self, namespace: &str, pod: &Value) -> Answer {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        self.send(Method::POST, &path, pod, true).await
    }
}

/// The text of a warning: `299 - "text"`.
fn unquoted(header: &str) -> String {
    let text = header.split_once(" \"").map_or(header, |(_, text)| text);
    text.strip_suffix('"')
        .unwrap_or(text)
        .replace("\\\"", "\"")
        .replace("\\\\", "\\")
}

impl Cluster {
    pub(crate) fn start() -> Result<Self, Failed> {
        let namespace = Namespace::new()?;
        let plane = ControlPlane::start(Options {
            namespace: Some(namespace.clone()),
            release: release(),
            // Some random pods are privileged.
            apiserver_flags: [version().1, vec!["--allow-privileged=true".to_owned()]].concat(),
            ..Options::default()
        })?;
        let cluster = Self { plane, namespace };
        for name in [IN, OUT, "kube-system", "podspan-system"] {
            cluster.plane.create_namespace(name)?;
            let label = format!("{LABEL}=true");
            if name != OUT {
                // Also those that are excluded.
                cluster
                    .plane
                    .kubectl(["label", "namespace", name, &label])?;
            }
        }
        cluster.apply_policy()?;
        Ok(cluster)
    }

    /// Applies the policy, and waits until all of it acts.
    pub(crate) fn apply_policy(&self) -> Result<(), Failed> {
        let (_, name) = version().0.names();
        let folder = manifests("injection").join(name);
        self.plane.kubectl([
            "apply".as_ref(),
            "--server-side".as_ref(),
            // Over what a test has patched.
            "--force-conflicts".as_ref(),
            "-k".as_ref(),
            folder.as_os_str(),
        ])?;
        self.until("the policy injects", async |api| {
            let stored = api.dry(IN, &pod(&json!({}), &json!({}))).await.accepted();
            stored["spec"]["initContainers"][0]["name"] == "podspan"
        });
        let wrong = pod(&json!({"podspan.dev/cpu": "x"}), &json!({}));
        self.until("the policy refuses", async |api| {
            api.dry(IN, &wrong).await.status >= 400
        });
        let mut controlled = wrong.clone();
        controlled["metadata"]["ownerReferences"] = controller();
        self.until("the policy warns", async |api| {
            !api.dry(IN, &controlled).await.warnings.is_empty()
        });
        self.until("the policy refuses parameters", async |api| {
            let wrong = json!({"metadata": {"name": "podspan"}, "data": {"x": "y"}});
            let path = "/api/v1/namespaces/podspan-system/configmaps/podspan";
            api.send(Method::PUT, path, &wrong, true).await.status >= 400
        });
        Ok(())
    }

    /// Runs requests.
    pub(crate) fn run<T: Send>(&self, work: impl AsyncFnOnce(&Api) -> T + Send) -> T {
        self.namespace.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let client = self.plane.client().await.unwrap();
                work(&Api(client)).await
            })
        })
    }

    /// Waits for a state.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, done: impl AsyncFn(&Api) -> bool + Send + Sync) {
        let begun = Instant::now();
        while !self.run(async |api| done(api).await) {
            assert!(begun.elapsed() < TIMEOUT, "not within {TIMEOUT:?}: {what}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Writes the parameters.
    pub(crate) fn set_parameters(&self, data: &Value) -> Result<(), Failed> {
        let patch = json!([{"op": "replace", "path": "/data", "value": data}]).to_string();
        self.plane.kubectl([
            "--namespace=podspan-system",
            "patch",
            "configmap",
            "podspan",
            "--type=json",
            "--patch",
            &patch,
        ])?;
        Ok(())
    }
}

/// A pod with annotations and further fields of its spec.
pub(crate) fn pod(annotations: &Value, spec: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "annotations": annotations},
        "spec": {"containers": [
            {"name": "web", "image": "example.invalid/web", "ports": [
                {"containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"},
            ]},
            {"name": "api", "image": "example.invalid/api"},
        ]},
    });
    for (field, value) in spec.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    pod
}

/// The owner of a pod that a controller made.
pub(crate) fn controller() -> Value {
    json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "controller": true,
        "uid": "0f4d2a55-9c1e-4f9a-8a49-1c1f6f2f7d10",
    }])
}

/// A stored pod without what differs between two that are otherwise the same.
pub(crate) fn comparable(stored: &Value) -> Value {
    let mut stored = stored.clone();
    let metadata = stored["metadata"].as_object_mut().unwrap();
    for field in [
        "uid",
        "creationTimestamp",
        "managedFields",
        "namespace",
        "resourceVersion",
        "generation",
    ] {
        metadata.remove(field);
    }
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        labels.remove(LABEL);
    }
    // The API server gives the volume of the token a random name.
    let text = stored.to_string();
    let mut parts = text.split("kube-api-access-");
    let mut fixed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        fixed.push_str("kube-api-access-");
        fixed.push_str(part.get(5..).unwrap_or_default());
    }
    let mut stored = serde_json::from_str(&fixed).unwrap();
    tokens_last(&mut stored);
    stored
}

/// It also adds them before or after a policy changes the pod.
fn tokens_last(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for list in ["volumes", "volumeMounts"] {
                if let Some(entries) = fields.get_mut(list).and_then(Value::as_array_mut) {
                    entries.sort_by_key(|entry| entry["name"] == "kube-api-access-");
                }
            }
            fields.values_mut().for_each(tokens_last);
        }
        Value::Array(entries) => entries.iter_mut().for_each(tokens_last),
        _ => (),
    }
}

/// The options that the shipped parameters are.
pub(crate) fn options() -> inject::Options<'static> {
    settings::injection()
}

/// Fails with what differs between two pods.
#[track_caller]
pub(crate) fn assert_same(one: &Value, other: &Value, pod: &Value) {
    let mut found = Vec::new();
    differences(one, other, "", &mut found);
    assert!(found.is_empty(), "{}\nin {pod}", found.join("\n"));
}

fn differences(one: &Value, other: &Value, path: &str, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for name in names {
                let [one, other] =
                    [one, other].map(|fields| fields.get(name).unwrap_or(&Value::Null));
                differences(one, other, &format!("{path}.{name}"), found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (place, (one, other)) in one.iter().zip(other).enumerate() {
                differences(one, other, &format!("{path}[{place}]"), found);
            }
        }
        _ if one != other => found.push(format!("{path}: {one} and {other}")),
        _ => (),
    }
}
