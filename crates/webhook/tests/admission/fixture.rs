//! The shipped objects, the replicas, and what stands for their Service.

use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, PostParams};
use libtest_mimic::Failed;
use serde_json::{Value, json};
use testbed::kubernetes::ControlPlane;
use tokio::runtime::{Builder, Runtime};

use crate::Outcome;
use crate::client::{TIMEOUT, Webhook, command};

pub(crate) const NAME: &str = "podspan-webhook";
pub(crate) const SYSTEM: &str = "podspan-system";

/// How the manifest names the Service.
const SERVICE: &str = "    service:
      name: podspan-webhook
      namespace: podspan-system
      path: /mutate
      port: 443
";

/// A pod with one container.
pub(crate) fn pod(name: &str, label: Option<&str>) -> Value {
    let labels = label.map(|label| json!({"podspan.dev/inject": label}));
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "automountServiceAccountToken": false,
            // As the namespace podspan-system wants it.
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "web", "image": "example.invalid/web", "ports": [{"containerPort": 80}],
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    })
}

/// Replicas of the webhook at a control plane.
pub(crate) struct Cluster<'a> {
    plane: &'a ControlPlane,
    pub(crate) webhooks: Vec<Webhook>,
    service: Service,
    runtime: Runtime,
    client: Client,
}

impl<'a> Cluster<'a> {
    /// Applies the shipped objects, and starts replicas at the same time.
    pub(crate) fn start(
        plane: &'a ControlPlane,
        replicas: usize,
        more: &[(&str, &str)],
    ) -> Result<Self, Failed> {
        for name in ["default", "kube-system"] {
            plane.create_namespace(name)?;
        }
        plane.kubectl([
            "delete",
            "mutatingwebhookconfiguration",
            NAME,
            "--ignore-not-found",
        ])?;
        let of = format!("--namespace={SYSTEM}");
        plane.kubectl(["delete", "secret", NAME, &of, "--ignore-not-found"])?;
        let service = Service::start()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(plane.client())?;
        let mut cluster = Self {
            plane,
            webhooks: Vec::new(),
            service,
            runtime,
            client,
        };
        cluster.apply()?;
        plane.create_service_account(SYSTEM, "default")?;
        let kubeconfig = cluster.kubeconfig()?;
        for _ in 0..replicas {
            let mut command = command();
            command
                .env("KUBECONFIG", &kubeconfig)
                .env("NAMES", "127.0.0.1")
                .env("LOG", "debug")
                .envs(more.iter().copied());
            cluster.webhooks.push(Webhook::run(command));
        }
        for webhook in &cluster.webhooks {
            webhook.until(|webhook| webhook.get("/readyz").0 == 200);
        }
        let addresses = cluster.webhooks.iter().map(|webhook| webhook.reviews);
        cluster.service.addresses.lock().unwrap().extend(addresses);
        Ok(cluster)
    }

    /// Applies what is shipped, with a URL in the place of the Service.
    pub(crate) fn apply(&self) -> Outcome {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/injection/webhook");
        let shipped = self.plane.kustomize(&folder, SYSTEM)?;
        assert_eq!(shipped.matches(SERVICE).count(), 2, "{shipped}");
        let url = format!("    url: https://127.0.0.1:{}/mutate\n", self.service.port);
        Ok(self.plane.apply_text(&shipped.replace(SERVICE, &url))?)
    }

    /// The access of the shipped account, with its rights only.
    fn kubeconfig(&self) -> Result<PathBuf, Failed> {
        let token = self
            .plane
            .request_token(SYSTEM, NAME, Duration::from_hours(1))?;
        let file = self.plane.folder().join("webhook-token");
        std::fs::write(&file, token)?;
        Ok(self.plane.write_token_kubeconfig(NAME, &file)?)
    }

    /// A namespace with this value of the label.
    pub(crate) fn add_namespace(&self, name: &str, label: Option<&str>) -> Outcome {
        self.plane.create_namespace(name)?;
        if let Some(label) = label {
            let label = format!("podspan.dev/inject={label}");
            self.plane.kubectl(["label", "namespace", name, &label])?;
        }
        Ok(())
    }

    /// Creates a pod on trial, and returns what would be stored.
    pub(crate) fn create(&self, namespace: &str, pod: &Value) -> Result<Value, Failed> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pod: Pod = serde_json::from_value(pod.clone())?;
        let parameters = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let stored = self.runtime.block_on(pods.create(&parameters, &pod))?;
        Ok(serde_json::to_value(stored)?)
    }

    /// Waits until pods of a namespace get podspan.
    #[track_caller]
    pub(crate) fn until_injecting(&self, namespace: &str) {
        self.until(|cluster| {
            let stored = cluster.create(namespace, &pod("first", None)).unwrap();
            stored["spec"]["initContainers"][0]["name"] == "podspan"
        });
    }

    #[track_caller]
    pub(crate) fn until(&self, condition: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            assert!(begun.elapsed() < TIMEOUT, "{}", self.logs());
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn logs(&self) -> String {
        let logs = self.webhooks.iter().map(|webhook| webhook.process.stderr());
        logs.collect::<Vec<_>>().join("\n")
    }

    /// Ends the connections of the API server, so that it makes new ones.
    pub(crate) fn cut_connections(&self) {
        for stream in self.service.open.lock().unwrap().drain(..) {
            // It may have ended.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// How often the replicas were asked, whatever the answer.
    pub(crate) fn asked(&self) -> u64 {
        let texts = self
            .webhooks
            .iter()
            .map(|webhook| webhook.get("/metrics").1);
        let counts = texts.map(|text| {
            let lines = text
                .lines()
                .filter(|line| line.starts_with("podspan_webhook_requests_total"));
            lines
                .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
                .sum::<u64>()
        });
        counts.sum()
    }

    pub(crate) fn secret(&self) -> Result<Value, Failed> {
        let of = format!("--namespace={SYSTEM}");
        let secret = self
            .plane
            .kubectl(["get", "secret", NAME, &of, "-o=json"])?;
        Ok(serde_json::from_str(&secret)?)
    }

    /// The CAs that an API server reads now.
    pub(crate) fn bundle(&self) -> String {
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let found = self.runtime.block_on(configurations.get(NAME)).unwrap();
        let webhooks = found.webhooks.into_iter().flatten();
        let mut bundles: Vec<_> = webhooks
            .map(|webhook| {
                let ByteString(bytes) = webhook.client_config.ca_bundle.unwrap_or_default();
                String::from_utf8(bytes).unwrap()
            })
            .collect();
        bundles.dedup();
        assert_eq!(bundles.len(), 1, "both webhooks have the same CAs");
        bundles.pop().unwrap()
    }
}

/// Forwards connections to the addresses by turns, as a Service does.
#[derive(Default)]
struct Service {
    port: u16,
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Service {
    fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let service = Self {
            port: listener.local_addr()?.port(),
            ..Self::default()
        };
        let (addresses, open) = (Arc::clone(&service.addresses), Arc::clone(&service.open));
        let turn = AtomicUsize::new(0);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let addresses = addresses.lock().unwrap().clone();
                if addresses.is_empty() {
                    continue;
                }
                let turn = turn.fetch_add(1, Ordering::Relaxed) % addresses.len();
                let Ok(server) = TcpStream::connect(addresses[turn]) else {
                    continue;
                };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || {
                        let _ = copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                open.lock().unwrap().push(client);
            }
        });
        Ok(service)
    }
}
