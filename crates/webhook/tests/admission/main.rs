//! The built `podspan-webhook` and the shipped manifests with a real API server, which asks by a URL on loopback.
//!
//! ```text
//!   kube-apiserver ---> forwarder ---> webhook, webhook     with the shipped account's rights
//! ```
//! Everything runs without root, in a network namespace with only `lo` up. The tests use one control plane, one after
//! the other, and each begins with the objects as they are shipped.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by a panic; clippy.toml's exception is for #[test] only"
)]

#[path = "../server/client.rs"]
mod client;
mod fixture;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};
use testbed::kubernetes::{ControlPlane, Options, run_in_namespace};

use client::Connection;
use fixture::{Cluster, NAME, SYSTEM, pod};

type Outcome = Result<(), Failed>;
type Test = (&'static str, fn(&ControlPlane) -> Outcome);

const TESTS: [Test; 4] = [
    (
        "pods_that_opted_in_are_injected_and_no_other_reaches_it",
        opted_in,
    ),
    ("without_the_webhook_pods_are_created_without_delay", absent),
    ("a_rotation_loses_no_injection", rotation),
    ("what_somebody_deletes_is_repaired", repaired),
];

fn main() -> ExitCode {
    run_in_namespace(run)
}

fn run() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let plane: Arc<Mutex<Option<ControlPlane>>> = Arc::default();
    let trial = |(name, test): Test| {
        let plane = Arc::clone(&plane);
        Trial::test(name, move || {
            let mut plane = plane.lock().unwrap_or_else(PoisonError::into_inner);
            if plane.is_none() {
                *plane = Some(ControlPlane::start(Options::default())?);
            }
            test(plane.as_ref().ok_or("no control plane")?)
        })
    };
    let trials = TESTS.into_iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Two replicas that start together agree on a certificate. A pod gets what `inject::inject` gives.
fn opted_in(plane: &ControlPlane) -> Outcome {
    let cluster = Cluster::start(plane, 2, &[])?;
    let [first, second] = &cluster.webhooks[..] else {
        panic!("two replicas");
    };
    let expiry = |webhook: &client::Webhook| webhook.count("certificate_expiry_timestamp_seconds");
    assert_eq!(expiry(first), expiry(second));
    cluster.assert_trusted();

    cluster.add_namespace("in", Some("true"))?;
    cluster.add_namespace("out", None)?;
    cluster.until_injecting("in");
    let asked = cluster.asked();
    for (namespace, label) in [
        ("out", None),
        ("out", Some("false")),
        ("out", Some("yes")),
        ("in", Some("false")),
        ("kube-system", Some("true")),
        (SYSTEM, Some("true")),
    ] {
        for _ in 0..5 {
            let stored = cluster.create(namespace, &pod("web", label))?;
            assert!(
                stored["spec"].get("initContainers").is_none(),
                "{namespace}: {stored}"
            );
        }
    }
    assert_eq!(
        cluster.asked(),
        asked,
        "a pod that did not opt in reached the webhook"
    );

    let options = inject::Options::new(&[], |_| Ok(()));
    for (namespace, label) in [("in", None), ("in", Some("true")), ("out", Some("true"))] {
        for token in [false, true] {
            let mut pod = pod("web", label);
            pod["spec"]["automountServiceAccountToken"] = token.into();
            let stored = cluster.create(namespace, &pod)?;
            let mut other = inject::inject(&pod, &options)?;
            other["metadata"]["labels"] = json!({"podspan.dev/inject": "false"});
            let mut other = cluster.create("out", &other)?;
            let mut stored = stored;
            for pod in [&mut stored, &mut other] {
                without_random_names(pod);
            }
            assert_eq!(stored["spec"], other["spec"], "{namespace} {label:?}");
            assert_eq!(stored["spec"]["initContainers"][0]["name"], "podspan");
        }
    }
    // Each was asked about once, or again after the API server's own changes.
    let now = cluster.asked() - asked;
    assert!((6..=12).contains(&now), "{now}");

    let mut wrong = pod("web", None);
    wrong["metadata"]["annotations"] = json!({"podspan.dev/cpu": "much"});
    let stored = cluster.create("in", &wrong)?;
    assert!(stored["spec"].get("initContainers").is_none(), "{stored}");
    let warned = |webhook: &client::Webhook| webhook.process.stderr().contains("podspan.dev/cpu");
    assert!(cluster.webhooks.iter().any(warned));
    Ok(())
}

/// The volume of the token has a random name.
fn without_random_names(pod: &mut Value) {
    let text = pod.to_string();
    if let Some((_, rest)) = text.split_once("kube-api-access-") {
        let random = &rest[..5];
        let text = text.replace(&format!("kube-api-access-{random}"), "kube-api-access");
        *pod = serde_json::from_str(&text).unwrap();
    }
}

/// Killed, frozen, and with an expired certificate.
fn absent(plane: &ControlPlane) -> Outcome {
    use nix::sys::signal::Signal;
    let mut cluster = Cluster::start(plane, 1, &[("VALIDITY", "12s")])?;
    cluster.add_namespace("absent", Some("true"))?;
    cluster.until_injecting("absent");
    let created = |cluster: &Cluster<'_>, what: &str, limit: Duration| -> Outcome {
        for _ in 0..3 {
            let begun = Instant::now();
            let stored = cluster.create("absent", &pod("web", None))?;
            let time = begun.elapsed();
            println!("{what}: a pod after {time:?}");
            assert!(
                stored["spec"].get("initContainers").is_none(),
                "{what}: {stored}"
            );
            assert!(time < limit, "{what}: {time:?}");
        }
        Ok(())
    };
    // The time-out of 2 s, and what a busy machine adds.
    let limit = Duration::from_secs(4);
    cluster.webhooks[0].process.signal(Signal::SIGSTOP)?;
    created(&cluster, "frozen", limit)?;
    cluster.webhooks[0].process.signal(Signal::SIGCONT)?;
    cluster.until_injecting("absent");

    // Without its Role it cannot renew the certificate.
    plane.kubectl(["delete", "rolebinding", NAME, "-n", SYSTEM])?;
    let expired = |webhook: &client::Webhook| webhook.get("/readyz").1.contains("not valid now");
    cluster.webhooks[0].until(expired);
    cluster.webhooks[0].until_logged("which has the Role");
    // A connection that is open stays in use; a new one shows the certificate.
    cluster.cut_connections();
    created(&cluster, "expired", limit)?;
    cluster.apply()?;
    cluster.webhooks[0].until(|webhook| webhook.get("/readyz").0 == 200);
    cluster.until_injecting("absent");

    cluster.webhooks.clear();
    created(&cluster, "killed", limit)
}

/// Pods are created all the time while certificates are replaced.
fn rotation(plane: &ControlPlane) -> Outcome {
    let cluster = Cluster::start(plane, 2, &[("VALIDITY", "15s")])?;
    cluster.add_namespace("rotation", Some("true"))?;
    cluster.until_injecting("rotation");
    let (mut expiries, mut pods) = (Vec::new(), 0);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(35) {
        let stored = cluster.create("rotation", &pod("web", None))?;
        assert_eq!(
            stored["spec"]["initContainers"][0]["name"],
            "podspan",
            "pod {pods} after {:?}: {}",
            begun.elapsed(),
            cluster.logs()
        );
        pods += 1;
        // Each handshake shows the certificate in use.
        cluster.assert_trusted();
        for webhook in &cluster.webhooks {
            expiries.push(webhook.count("certificate_expiry_timestamp_seconds"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    expiries.sort_unstable();
    expiries.dedup();
    println!("{pods} pods, {} certificates", expiries.len());
    assert!(
        expiries.len() > 2 && pods > 100,
        "{expiries:?}, {pods} pods"
    );
    Ok(())
}

/// The CA in the configuration, the Secret's data, the Secret and the configuration.
fn repaired(plane: &ControlPlane) -> Outcome {
    let cluster = Cluster::start(plane, 2, &[])?;
    cluster.add_namespace("repaired", Some("true"))?;
    cluster.until_injecting("repaired");
    let certificate = cluster.secret()?["data"]["tls.crt"].clone();
    assert!(certificate.is_string());

    let empty = r#"[{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]"#;
    let configuration = [
        "patch",
        "mutatingwebhookconfiguration",
        NAME,
        "--type=json",
        "-p",
    ];
    plane.kubectl(configuration.iter().chain(&[empty]))?;
    cluster.until_injecting("repaired");

    let empty = r#"{"data": null}"#;
    let of = format!("--namespace={SYSTEM}");
    plane.kubectl(["patch", "secret", NAME, &of, "--type=merge", "-p", empty])?;
    cluster.until(|cluster| {
        cluster
            .secret()
            .is_ok_and(|secret| secret["data"]["tls.crt"] == certificate)
    });

    plane.kubectl(["delete", "secret", NAME, &of])?;
    for webhook in &cluster.webhooks {
        webhook.until_logged("apply manifests/injection/webhook again");
    }
    cluster.until_injecting("repaired");
    cluster.apply()?;
    cluster.until(|cluster| {
        cluster
            .secret()
            .is_ok_and(|secret| secret["data"]["tls.crt"] == certificate)
    });

    plane.kubectl(["delete", "mutatingwebhookconfiguration", NAME])?;
    cluster.apply()?;
    cluster.until_injecting("repaired");
    cluster.assert_trusted();
    Ok(())
}

impl Cluster<'_> {
    /// Whether each replica's certificate is trusted by who reads the configuration now.
    #[track_caller]
    fn assert_trusted(&self) {
        let bundle = self.bundle();
        for webhook in &self.webhooks {
            let mut connection = Connection::new(webhook.connect_tcp(), &bundle);
            assert!(
                connection.try_write("GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
                "not trusted: {}",
                self.logs()
            );
        }
    }
}
