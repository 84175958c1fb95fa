//! The built program, as kubectl runs it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod keys;

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web # the name\nspec:\n  containers:\n  - name: web\n";

fn plugin(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-podspan"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that does not read its input closes it.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_stream_is_injected_and_returned() {
    let injected = plugin(&["inject", "-f", "-"], POD);
    assert_eq!(text(&injected.stderr), "pod web: podspan is injected\n");
    let stream = text(&injected.stdout);
    assert!(
        stream.contains("  - name: podspan\n    image: ghcr.io/podspan/podspan:"),
        "{stream}"
    );
    let again = plugin(&["inject", "-f", "-"], stream);
    assert_eq!(
        (text(&again.stdout), text(&again.stderr)),
        (stream, "pod web: unchanged\n")
    );
    for arguments in [
        &["uninject", "-f", "-"][..],
        &["inject", "--remove", "--filename=-"][..],
    ] {
        let removed = plugin(arguments, stream);
        assert_eq!(text(&removed.stdout), POD);
        assert_eq!(text(&removed.stderr), "pod web: podspan is removed\n");
    }
}

#[test]
fn a_file_is_read_and_options_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pod.yaml");
    fs::write(&path, POD).unwrap();
    let path = path.to_str().unwrap();
    let options = [
        "--image",
        "a.example/podspan:1",
        "--place=plain",
        "--security=root",
        "--quiet",
    ];
    let injected = plugin(&[&["inject", "-f", path], &options[..]].concat(), "");
    assert!(injected.stderr.is_empty() && injected.status.success());
    let stream = text(&injected.stdout);
    for part in [
        "image: a.example/podspan:1\n",
        "runAsUser: 0\n",
        "  - name: web\n  - name: podspan\n",
    ] {
        assert!(stream.contains(part), "{part}\n{stream}");
    }
}

#[test]
fn a_refusal_prints_only_the_reasons() {
    let wrong = POD.replace("  name: web # the name\n", "  name: web\n  annotations:\n    podspan.dev/filter: tcp prt 80\n    podspan.dev/vin: '1'\n");
    let stream = format!("{POD}---\n{wrong}");
    let refused = plugin(&["inject", "-f", "-"], &stream);
    assert_eq!(
        (refused.status.code(), text(&refused.stdout)),
        (Some(1), "")
    );
    let reasons = text(&refused.stderr);
    assert!(
        reasons.starts_with("the standard input is not changed:\ndocument 2, Pod web, line 9: "),
        "{reasons}"
    );
    for part in [
        "podspan.dev/vin is unknown; the nearest known one is podspan.dev/vni",
        "podspan.dev/filter is \"tcp prt 80\": ",
    ] {
        assert!(reasons.contains(part), "{part}\n{reasons}");
    }
}

#[test]
fn errors_have_their_exit_codes() {
    let missing = plugin(&["inject", "-f", "no-such-file.yaml"], "");
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).starts_with("cannot read no-such-file.yaml: "));
    for arguments in [
        &[][..],
        &["inject"],
        &["injct"],
        &["inject", "-f", "-", "--place=last"],
    ] {
        let wrong = plugin(arguments, "");
        assert_eq!(wrong.status.code(), Some(2), "{arguments:?}");
        let help = text(&wrong.stderr);
        assert!(
            help.contains("Usage: kubectl podspan") || help.contains("--help"),
            "{help}"
        );
    }
}

#[test]
fn without_a_pod_nothing_is_changed() {
    let stream = "apiVersion: v1\nkind: Service\n";
    let output = plugin(&["inject", "-f", "-"], stream);
    assert_eq!(text(&output.stdout), stream);
    assert_eq!(
        text(&output.stderr),
        "no object with pods: nothing is changed\n"
    );
}

#[test]
fn the_version_and_the_completions_are_printed() {
    let version = plugin(&["version"], "");
    assert!(text(&version.stdout).contains(inject::IMAGE));
    let document = plugin(&["version", "--output=json"], "");
    let document: serde_json::Value = serde_json::from_slice(&document.stdout).unwrap();
    assert_eq!(
        document,
        serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "image": inject::IMAGE})
    );
    let document = plugin(&["version", "-o", "yaml"], "");
    let image = format!("image: {}\n", inject::IMAGE);
    assert!(text(&document.stdout).contains(&image), "{document:?}");
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = plugin(&["completion", shell], "");
        assert!(text(&script.stdout).contains("uninject"), "{shell}");
    }
}

#[test]
fn the_document_is_what_the_program_prints() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/kubectl.md");
    assert_eq!(
        fs::read_to_string(path).unwrap(),
        kubectl::markdown(),
        "cargo run -p kubectl -- markdown > docs/kubectl.md"
    );
}

/// Ports of containers give filters that podspan accepts.
#[test]
fn the_filter_of_containers_compiles() {
    let pod = POD.replace(
        "  name: web # the name\n",
        "  name: web\n  annotations: {podspan.dev/containers: web}\n",
    ) + "    ports: [{containerPort: 80}, {containerPort: 53, protocol: UDP}, {containerPort: 9, protocol: SCTP}]\n";
    let injected = plugin(&["inject", "-f", "-"], &pod);
    let value = "    - name: FILTER\n      value: \"tcp port 80 or udp port 53 or sctp port 9\"\n";
    assert!(text(&injected.stdout).contains(value), "{injected:?}");
}

/// With the reason that podspan gives when it starts.
#[test]
fn annotations_are_checked_as_podspan_checks_them() {
    for (name, value, reason) in [
        (
            "vni",
            "99999999",
            "a VNI has 24 bits; the largest is 16777215 (0xffffff); expected: a number from 0 to",
        ),
        (
            "mtu",
            "1279",
            "it is out of bounds: the smallest is 1280, the largest 65535; expected: a number of bytes",
        ),
        (
            "sensor",
            "10.0.0.300",
            "\"10.0.0.300\" is not an address; expected: a name, or addresses",
        ),
        ("log", " ", "it is empty; expected: error, warn"),
    ] {
        let pod = POD.replace(
            "  name: web # the name\n",
            &format!("  name: web\n  annotations: {{podspan.dev/{name}: '{value}'}}\n"),
        );
        let refused = plugin(&["inject", "-f", "-"], &pod);
        let expected = format!("the annotation podspan.dev/{name} is \"{value}\": {reason}");
        assert!(
            text(&refused.stderr).contains(&expected),
            "{}",
            text(&refused.stderr)
        );
        let set = format!("--set={name}={value}");
        let refused = plugin(&["inject", "-f", "-", &set], POD);
        let expected = format!("the default {name} is \"{value}\": {reason}");
        assert!(
            text(&refused.stderr).contains(&expected),
            "{}",
            text(&refused.stderr)
        );
    }
}

#[test]
fn defaults_set_variables() {
    let injected = plugin(
        &[
            "inject",
            "-f",
            "-",
            "--set",
            "sensor=zeek",
            "--set=filter=port 80",
        ],
        POD,
    );
    for variable in [
        "name: SENSOR\n      value: zeek\n",
        "name: FILTER\n      value: \"port 80\"\n",
    ] {
        assert!(text(&injected.stdout).contains(variable), "{injected:?}");
    }
    let by_flag = plugin(&["inject", "-f", "-", "--tunnel-secret=keys"], POD);
    let volume = "  volumes:\n  - name: podspan-tunnel\n    secret:\n      secretName: keys\n      optional: true\n";
    assert!(text(&by_flag.stdout).contains(volume), "{by_flag:?}");
    let by_setting = plugin(&["inject", "-f", "-", "--set=tunnel-secret=keys"], POD);
    assert_eq!(by_setting.stdout, by_flag.stdout);
    let wrong = plugin(&["inject", "-f", "-", "--tunnel-secret=Keys"], POD);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("it is not the name of a Secret"));
    let wrong = plugin(&["inject", "-f", "-", "--set", "zeek"], POD);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("it has no =; for example sensor=zeek"));
}
