//! `kubectl podspan keys`: its Secrets, and sessions with the keys in them.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tunnel::initiator::{Answer, Identity, Initiator, InitiatorConfig};
use tunnel::protocol::INITIATION_LEN;
use tunnel::responder::{Limits, Opened, Replies, Responder, ResponderConfig};
use tunnel::{Inner, PresharedKeys};

use super::{plugin, text};

/// The Secrets that a successful command prints, from its JSON.
fn secrets(arguments: &[&str], input: &str) -> Vec<Value> {
    let output = plugin(&[&["keys", "-ojson", "-q"], arguments].concat(), input);
    assert_eq!(text(&output.stderr), "");
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(list["kind"], "List");
    list["items"].as_array().unwrap().clone()
}

fn entry(secret: &Value, name: &str) -> String {
    let data = secret["data"][name].as_str().unwrap();
    String::from_utf8(STANDARD.decode(data).unwrap()).unwrap()
}

/// Whether a podspan with its Secret gets a session with the sensor that has the other one.
fn connects(podspan: &Value, sensor: &Value) -> bool {
    let now = Instant::now();
    let config = InitiatorConfig {
        identity: Identity::Fresh,
        sensor: entry(podspan, "sensor-key").parse().unwrap(),
        preshared: entry(podspan, "preshared-key").parse().unwrap(),
        inner: Inner::DEFAULT,
    };
    let mut initiator = Initiator::new(config, 1, now);
    let config = ResponderConfig {
        private: entry(sensor, "private-key").parse().unwrap(),
        preshared: entry(sensor, "preshared-keys").parse().unwrap(),
        limits: Limits::default(),
    };
    let mut responder = Responder::new(config, now);
    let from = "127.0.0.1:50000".parse().unwrap();
    let (mut out, mut replies) = ([0; 200], Replies::new());
    let mut initiation = [0; INITIATION_LEN];
    let initiation = initiator.poll(now, &mut initiation).unwrap();
    let answered = responder.receive(initiation, from, now, &mut out, &mut replies);
    if answered != Ok(Opened::Answered) {
        return false;
    }
    replies.iter().any(|reply| {
        let answer = initiator.receive(reply, now + Duration::from_millis(1));
        matches!(answer, Ok(Answer::Established(_)))
    })
}

#[test]
fn a_podspan_with_the_printed_keys_gets_a_session_with_its_sensor_and_no_other() {
    let printed = secrets(
        &["-n", "shop", "-n", "web", "--sensor-namespace=sensors"],
        "",
    );
    let [sensor, shop, web] = &printed[..] else {
        panic!("{printed:?}");
    };
    for (secret, namespace, name) in [
        (sensor, "sensors", "podspan-receive"),
        (shop, "shop", "podspan-tunnel"),
        (web, "web", "podspan-tunnel"),
    ] {
        assert_eq!(secret["metadata"]["namespace"], namespace);
        assert_eq!(secret["metadata"]["name"], name);
    }
    assert!(connects(shop, sensor) && connects(web, sensor));
    let others = secrets(&[], "");
    assert!(!connects(shop, &others[0]) && !connects(&others[1], sensor));
    assert_eq!(others[0]["metadata"].get("namespace"), None);
}

#[test]
fn a_rotation_keeps_each_podspan_connected_until_the_older_key_is_removed() {
    let printed = secrets(&[], "");
    let (before, old) = (printed[0].to_string(), &printed[1]);
    let rotated = secrets(&["--rotate", "-f-"], &before).remove(0);
    let new = secrets(&["-f", "-", "-n", "shop"], &rotated.to_string()).remove(0);
    assert!(!connects(&new, &printed[0]), "the key is new");
    assert!(connects(old, &rotated) && connects(&new, &rotated));
    let again = secrets(&["-f", "-", "-n", "shop"], &rotated.to_string()).remove(0);
    assert_eq!(again, new, "a step that is repeated makes no key");

    let finished = secrets(&["--finish", "-f-"], &rotated.to_string()).remove(0);
    assert!(connects(&new, &finished) && !connects(old, &finished));
}

#[test]
fn a_secret_keeps_everything_else_and_the_version_that_was_read() {
    let made = secrets(&["--sensor-namespace=sensors"], "").remove(0);
    let [private, preshared] = ["private-key", "preshared-keys"].map(|name| &made["data"][name]);
    let stored = format!(
        "apiVersion: v1\nkind: Secret\ntype: Opaque\nmetadata:\n  name: podspan-receive\n  namespace: sensors\n  \
         resourceVersion: '7'\n  uid: u\n  labels: {{team: net}}\n  managedFields: [{{manager: kubectl}}]\n  annotations:\n    \
         note: mine\n    kubectl.kubernetes.io/last-applied-configuration: |\n      {{\"data\": {preshared}}}\n\
         data:\n  private-key: {private}\n  preshared-keys: {preshared}\n  other: eA==\n"
    );
    let rotated = secrets(&["--rotate", "-f", "-"], &stored).remove(0);
    let metadata = serde_json::json!({
        "name": "podspan-receive", "namespace": "sensors", "resourceVersion": "7", "uid": "u",
        "labels": {"team": "net"}, "annotations": {"note": "mine"},
    });
    assert_eq!(rotated["metadata"], metadata);
    assert_eq!(rotated["data"]["other"], "eA==");
    assert_eq!(&rotated["data"]["private-key"], private);
    let keys: PresharedKeys = entry(&rotated, "preshared-keys").parse().unwrap();
    assert_eq!(keys.count(), 2);
    let first = entry(&rotated, "preshared-keys");
    assert!(first.starts_with(entry(&made, "preshared-keys").trim()));
}

#[test]
fn yaml_documents_say_what_they_are_for_and_are_read_again() {
    let new = plugin(&["keys", "-n", "shop"], "");
    let stream = text(&new.stdout);
    assert_eq!(text(&new.stderr), "");
    assert!(
        stream.starts_with("# For podspan-receive beside the sensor, "),
        "{stream}"
    );
    assert!(
        stream.contains("---\n# For podspan in the namespace shop: "),
        "{stream}"
    );
    assert!(stream.ends_with("type: Opaque\n"), "{stream}");
    let (sensor, _) = stream.split_once("---\n").unwrap();
    let rotated = plugin(&["keys", "--rotate", "--filename=-"], sensor);
    assert!(text(&rotated.stdout).contains("two pre-shared keys are valid, the older one first"));
    assert!(text(&rotated.stderr).starts_with("next, when each podspan-receive has logged keys=2"));
}

#[test]
fn a_secret_that_does_not_fit_is_refused_with_the_reason_and_no_key() {
    let made = secrets(&["--sensor-namespace=sensors", "-n", "shop"], "");
    let (sensor, podspans) = (&made[0], &made[1]);
    let rotated = secrets(&["--rotate", "-f-"], &sensor.to_string()).remove(0);
    let changed = |pointer: &str, value: &str| {
        let mut changed = sensor.clone();
        *changed.pointer_mut(pointer).unwrap() = value.into();
        changed.to_string()
    };
    let mut immutable = sensor.clone();
    immutable["immutable"] = true.into();
    let private = sensor["data"]["private-key"].as_str().unwrap();
    let (rotate, finish) = (&["--rotate"][..], &["--finish"][..]);
    for (arguments, input, reason) in [
        (
            &[][..],
            String::new(),
            "the standard input has 0 objects. Give what this prints: kubectl get",
        ),
        (
            &[],
            format!("{sensor}\n---\n{sensor}"),
            "the standard input has 2 objects. ",
        ),
        (
            &[],
            format!("a: b: {private}\n"),
            "the standard input is not YAML or JSON: line 1, column ",
        ),
        (
            &[],
            "kind: Pod\napiVersion: v1\n".to_owned(),
            "has an object of the kind \"Pod\", and no Secret",
        ),
        (
            &[],
            podspans.to_string(),
            "the Secret shop/podspan-tunnel has no private-key, so it is not",
        ),
        (
            &[],
            changed("/metadata/name", "a\nb"),
            "has a Secret whose name or namespace is not",
        ),
        (
            &[],
            changed("/data/private-key", &private[1..]),
            "has a wrong private-key: it is not base64",
        ),
        (
            &[],
            changed("/data/preshared-keys", "eA=="),
            "has a wrong preshared-keys: line 1: a pre-shared key is 44",
        ),
        (
            rotate,
            rotated.to_string(),
            "the Secret sensors/podspan-receive has two pre-shared keys: a rotation has begun",
        ),
        (
            rotate,
            immutable.to_string(),
            "is immutable, so its keys cannot be changed",
        ),
        (
            finish,
            sensor.to_string(),
            "has one pre-shared key: no rotation has begun",
        ),
        (
            &["-n", "sensors", "--name=podspan-receive"],
            sensor.to_string(),
            "would both be sensors/podspan-receive",
        ),
    ] {
        let refused = plugin(&[&["keys", "-f", "-"], arguments].concat(), &input);
        let said = text(&refused.stderr);
        assert_eq!(
            (refused.status.code(), text(&refused.stdout)),
            (Some(1), ""),
            "{reason}"
        );
        assert!(said.contains(reason), "{reason}\n{said}");
        assert!(!said.contains(&private[1..20]), "{said}");
    }
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    for arguments in [
        &["--rotate"][..],
        &["--finish"],
        &["-f", "-", "--rotate", "--finish"],
        &["-f", "-", "--rotate", "-n", "shop"],
        &["-f", "-", "--finish", "--name=x"],
        &["-f", "-", "--sensor-name=x"],
        &["-n", "Shop"],
        &["--name", "a\nb"],
    ] {
        let wrong = plugin(&[&["keys"], arguments].concat(), "");
        assert_eq!(
            (wrong.status.code(), text(&wrong.stdout)),
            (Some(2), ""),
            "{arguments:?}"
        );
    }
}
