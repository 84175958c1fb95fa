//! The binary as an operator uses it: arguments and environment in, texts and exit codes out.

#![expect(
    clippy::unwrap_used,
    reason = "tests say what they expect by panicking"
)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use settings::TABLE;
use testbed::{FullPipe, Process, Signal};

/// The binary with an empty environment.
fn podspan(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podspan"));
    command
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied());
    command.stdin(Stdio::null()).output().unwrap()
}

fn texts(output: &Output) -> (&str, &str) {
    (
        str::from_utf8(&output.stdout).unwrap(),
        str::from_utf8(&output.stderr).unwrap(),
    )
}

/// Asserts exit code 64, nothing on standard output, and every word on standard error.
fn refused(output: &Output, words: &[&str]) {
    let (answer, refusal) = texts(output);
    assert_eq!(output.status.code(), Some(64), "{refusal}");
    assert_eq!(answer, "");
    for word in words {
        assert!(refusal.contains(word), "{word:?} is missing in:\n{refusal}");
    }
}

#[test]
fn help_needs_no_settings_and_lists_them_all() {
    let output = podspan(&["--help"], &[]);
    let (answer, refusal) = texts(&output);
    assert_eq!((output.status.code(), refusal), (Some(0), ""));
    for variable in TABLE {
        assert!(answer.contains(variable.name), "{}", variable.name);
    }
    for flag in ["--help", "--version", "--check-config"] {
        assert!(answer.contains(flag), "{flag}");
    }
}

#[test]
fn version() {
    let output = podspan(&["--version"], &[]);
    let expected = format!("podspan {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (output.status.code(), texts(&output)),
        (Some(0), (expected.as_str(), ""))
    );
}

#[test]
fn the_document_can_be_printed() {
    let output = podspan(&["--configuration-markdown"], &[]);
    assert_eq!(texts(&output), (agent::help::markdown().as_str(), ""));
}

#[test]
fn unknown_arguments() {
    refused(
        &podspan(&["--sensor"], &[]),
        &["--sensor", "--help", "SENSOR=zeek podspan"],
    );
    refused(
        &podspan(&["--help", "more"], &[]),
        &["more", "one argument"],
    );
}

#[test]
fn check_config_prints_values_and_origins() {
    let output = podspan(&["--check-config"], &[("SENSOR", "::1"), ("VNI", "0x10")]);
    let (answer, refusal) = texts(&output);
    assert_eq!((output.status.code(), refusal), (Some(0), ""));
    assert_eq!(answer.lines().count(), TABLE.len());
    for line in [
        "SENSOR=::1  # env\n",
        "VNI=16  # env\n",
        "RING_SIZE=auto  # default\n",
    ] {
        assert!(answer.contains(line), "{line:?} is missing in:\n{answer}");
    }
}

#[test]
fn a_wrong_environment_is_refused_alike_by_the_check_and_the_start() {
    for arguments in [&["--check-config"] as &[&str], &[]] {
        refused(
            &podspan(arguments, &[]),
            &["SENSOR is not set", "for example SENSOR=zeek"],
        );
        refused(
            &podspan(arguments, &[("SENSOR", "")]),
            &["SENSOR=\"\"", "it is empty"],
        );
    }
}

#[test]
fn all_errors_at_once() {
    let wrong = [
        ("SENSOR", "10.0.0.300"),
        ("INTERFACE", "eth0,eth0"),
        ("VNI", "1a"),
        ("SENSOR_PORT", "0"),
        ("MTU", "500"),
        ("RING_SIZE", "32MB"),
        ("LOG", "loud"),
        ("LOG_FORMAT", "xml"),
        ("RECEIVER", "pcap"),
        ("SENSOR_PREFER", "zone"),
        ("SENSOR_NAMESPACE", "Shop"),
        ("START_WAIT", "5"),
        ("ON_FAILURE", "sleep"),
    ];
    let output = podspan(&[], &wrong);
    refused(
        &output,
        &[
            "wrong in 13 places",
            "VNI=0x1a",
            "old script read every VNI as hex",
        ],
    );
    let (_, refusal) = texts(&output);
    for (name, value) in wrong {
        let start = format!("  {name}={value:?}: ");
        let line = refusal.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("no line starts with {start:?} in:\n{refusal}"));
        let example = TABLE
            .iter()
            .find(|variable| variable.name == name)
            .unwrap()
            .example;
        assert!(
            line.ends_with(&format!("for example {name}={example}")),
            "{line}"
        );
    }
}

#[test]
fn with_on_failure_idle_wrong_settings_keep_it_alive_until_a_signal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podspan"));
        let wrong = [("ON_FAILURE", "idle"), ("VNI", "1a"), ("MTU", "1")];
        command.env_clear().envs(wrong);
        let mut agent = Process::spawn(command).unwrap();
        let limit = Duration::from_secs(30);
        for word in [
            "ON_FAILURE=idle",
            "wrong in 3 places",
            "SENSOR is not set",
            "VNI=0x1a",
            "MTU=\"1\"",
            "restart the container",
        ] {
            agent.wait_for_output(word, limit).unwrap();
        }
        std::thread::sleep(Duration::from_millis(500));
        assert!(agent.try_wait().unwrap().is_none(), "{}", agent.stderr());
        let used = agent.cpu_time().unwrap();
        assert!(used < Duration::from_millis(250), "{used:?}");
        agent.signal(signal).unwrap();
        assert!(agent.wait(limit).unwrap().success(), "{}", agent.stderr());
    }
}

#[test]
fn a_wrong_on_failure_ends_it() {
    refused(
        &podspan(&[], &[("SENSOR", "::1"), ("ON_FAILURE", "sleep")]),
        &["ON_FAILURE=\"sleep\"", "for example ON_FAILURE=idle"],
    );
    // --check-config reports the errors, whatever ON_FAILURE is.
    refused(
        &podspan(&["--check-config"], &[("ON_FAILURE", "idle")]),
        &["SENSOR is not set"],
    );
}

#[test]
fn a_value_that_is_not_utf8() {
    let output = Command::new(env!("CARGO_BIN_EXE_podspan"))
        .env_clear()
        .env("SENSOR", OsStr::from_bytes(b"\xff\xfe"))
        .env(
            OsStr::from_bytes(b"OTHERS_\xff"),
            OsStr::from_bytes(b"\xff"),
        )
        .output()
        .unwrap();
    refused(&output, &["SENSOR=", "not UTF-8", "for example SENSOR="]);
}

#[test]
fn a_closed_reader_is_no_panic() {
    // The pipe's reader is closed before the process starts.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_podspan"))
        .arg("--help")
        .env_clear()
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_refusal_that_nobody_reads_ends_the_process() {
    let FullPipe { writer, reader, .. } = FullPipe::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_podspan"));
    command.env_clear();
    let mut process = Process::spawn_with_stderr(command, writer).unwrap();
    let status = process.wait(Duration::from_secs(20)).unwrap();
    assert_eq!(status.code(), Some(64));
    drop(reader);
}

/// The panic is in another process: this test again, with a variable set.
#[test]
fn a_panic_that_nobody_reads_ends_the_process() {
    const NAME: &str = "a_panic_that_nobody_reads_ends_the_process";
    const PANIC: &str = "PANIC";
    if std::env::var_os(PANIC).is_some() {
        agent::log::report_panics();
        panic!("as asked");
    }
    let command = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", NAME, "--nocapture"]);
        command.env_clear().env(PANIC, "1");
        command
    };
    let limit = Duration::from_secs(20);
    let mut process = Process::spawn(command()).unwrap();
    assert_eq!(process.wait(limit).unwrap().code(), Some(101));
    let text = process.stderr();
    let start = format!("podspan: thread {NAME} panicked at ");
    assert!(
        text.starts_with(&start) && text.contains("as asked"),
        "{text}"
    );

    let FullPipe { writer, reader, .. } = FullPipe::new().unwrap();
    let mut process = Process::spawn_with_stderr(command(), writer).unwrap();
    assert_eq!(process.wait(limit).unwrap().code(), Some(101));
    drop(reader);
}

/// `-ddd` is a program of the form that tcpdump prints, and `-r` counts as tcpdump does.
#[test]
fn filter_checks_an_expression_and_counts_as_tcpdump_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("samples.pcap");
    let number = |number: u32| number.to_le_bytes();
    let header = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1];
    let mut bytes: Vec<u8> = header.into_iter().flat_map(number).collect();
    for (_, frame) in testbed::traffic::samples([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]) {
        let length = u32::try_from(frame.len()).unwrap();
        bytes.extend([1, 0, length, length].into_iter().flat_map(number));
        bytes.extend(frame);
    }
    std::fs::write(&path, bytes).unwrap();
    let file = path.to_str().unwrap();
    let expressions = [
        "",
        "udp port 9",
        "not udp",
        "vlan",
        "tcp[tcpflags] & tcp-syn != 0",
        "len > 1000",
    ];
    for text in expressions {
        let tcpdump = Command::new("tcpdump")
            .args(["-n", "-r", file, "--count", text])
            .output()
            .unwrap();
        let count = String::from_utf8_lossy(&tcpdump.stdout).into_owned();
        let kept = count.split(' ').next().unwrap();
        let output = podspan(&["filter", text, "-r", file], &[]);
        let (answer, errors) = texts(&output);
        assert!(
            answer.starts_with(&format!("{kept} of ")),
            "{text}: {kept} {answer}{errors}"
        );
    }
    let output = podspan(&["filter", "udp port 53", "-ddd"], &[]);
    let (answer, _) = texts(&output);
    let count: usize = answer.lines().next().unwrap().parse().unwrap();
    assert_eq!(answer.lines().count(), count + 1);
    let output = podspan(&["filter", "-d", "ip"], &[]);
    assert!(texts(&output).0.starts_with("(000) ldh      [12]\n"));
    let output = podspan(&["filter", "host web"], &[]);
    refused(&output, &["at byte 5", "web", "expected: an IPv4"]);
    let output = podspan(&["filter", "ip", "-r", "/nonexistent"], &[]);
    refused(&output, &["/nonexistent"]);
    refused(&podspan(&["filter"], &[]), &["usage: podspan filter"]);
}
