//! Cases that a real API server cannot produce, with a listener that answers like one:
//!
//! - a `Retry-After` of more than one second: kube-apiserver always sends one second, which is not
//!   longer than podspan's own backoff;
//! - a streaming list that never ends: API servers before 1.27 ignore the parameter and only watch, and
//!   the tests have one version of Kubernetes;
//! - texts that try to forge lines of the log.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use discovery::{ClientSource, Contact, Scope};
use libtest_mimic::Failed;
use serde_json::json;

use crate::Outcome;
use crate::finder::{Finder, TIMEOUT, settings};

/// The `Retry-After` of the answers, in seconds.
const RETRY_AFTER: u64 = 3;

/// Answers a request; it gets the first line of the request.
type Answer = fn(&str, &TcpStream) -> io::Result<()>;

pub(crate) fn retry_after() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (finder, requests) = start(folder.path(), |_, mut client| {
        write!(
            client,
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: {RETRY_AFTER}\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        )
    })?;
    finder.until_logged(&["WARN", "(429)", "try again in 3s"]);
    let (mut before, _) = requests.recv_timeout(TIMEOUT)?;
    for _ in 0..2 {
        let (next, _) = requests.recv_timeout(TIMEOUT)?;
        let waited = next - before;
        assert!(
            waited >= Duration::from_secs(RETRY_AFTER),
            "only {waited:?}"
        );
        before = next;
    }
    let contact = finder.contact();
    assert!(!contact.is_connected && contact.answered.is_none());
    let failures: Vec<_> = Contact::KINDS
        .into_iter()
        .zip(contact.failures)
        .filter(|(_, count)| *count > 0)
        .collect();
    let is_throttled = matches!(failures[..], [("throttled", 2..)]);
    assert!(is_throttled, "{failures:?}");
    Ok(())
}

pub(crate) fn endless_list() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (finder, requests) = start(folder.path(), |request, mut client| {
        if request.contains("watch=") {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                        Transfer-Encoding: chunked\r\n\r\n";
            client.write_all(head.as_bytes())?;
            // Until the client closes the connection.
            return io::copy(&mut client, &mut io::sink()).map(drop);
        }
        let list = json!({"kind": "PodList", "apiVersion": "v1", "items": [],
            "metadata": {"resourceVersion": "7"}});
        let list = list.to_string();
        write!(
            client,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{list}",
            list.len()
        )
    })?;
    finder.until(&[]);
    let words = ["sendInitialEvents=true", "limit=500", "resourceVersion=7"];
    for word in words {
        let (_, request) = requests.recv_timeout(TIMEOUT)?;
        assert!(request.contains(word), "{request} instead of {word}");
    }
    assert_eq!(finder.times_logged("WARN discovery::journal: discovery"), 0);
    assert!(finder.contact().answered.is_some());
    assert_eq!(finder.contact().failures.iter().sum::<u64>(), 0);
    Ok(())
}

/// A forged text in each place from which a text can reach the log.
pub(crate) fn forged_lines() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (finder, _requests) = start(folder.path(), |_, mut client| {
        let forged = "x\n2026-11-23T00:00:00.000000Z  INFO discovery::journal: \u{202e}forged";
        let pod = |name: &str, phase: &str, address: &str| {
            json!({"type": "ADDED", "object": {
                "metadata": {"namespace": forged, "name": format!("{name}{forged}"), "uid": name,
                    "resourceVersion": "6", "annotations": {"podspan.dev/receiver": forged}},
                "status": {"phase": phase, "podIPs": [{"ip": address}],
                    "conditions": [{"type": "Ready", "status": "True"}]}}})
        };
        let bookmark = json!({"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1",
            "metadata": {"resourceVersion": "7",
                "annotations": {"k8s.io/initial-events-end": "true"}}}});
        let error = json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure",
            "code": 500, "message": forged}});
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
        let used = pod("used", "Running", "10.0.0.1");
        let unused = pod("unused", forged, "10.0.0.2");
        write!(
            client,
            "{head}\r\n\r\n{used}\n{unused}\n{bookmark}\n{error}\n"
        )
    })?;
    let escaped = r"x\n2026-11-23T00:00:00.000000Z  INFO discovery::journal: \u{202e}forged";
    for words in [
        ["its phase is", escaped],
        ["podspan.dev/receiver is", r"x\n2026"],
        ["sensors: 10.0.0.1:4789 (", escaped],
        ["(500: ", escaped],
    ] {
        finder.until_logged(&words);
    }
    let log = finder.log();
    let is_genuine =
        |line: &str| line.starts_with("20") && !line.starts_with("2026-11-23T00:00:00");
    assert!(log.lines().all(is_genuine), "{log}");
    Ok(())
}

/// A finder whose API server always sends this answer, and the requests with their times.
///
/// The finder reads the kubeconfig in the folder again after each failure.
fn start(folder: &Path, answer: Answer) -> Result<(Finder, Receiver<(Instant, String)>), Failed> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let server = format!("http://{}", listener.local_addr()?);
    let kubeconfig = folder.join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "scripted", "users": [],
        "clusters": [{"name": "scripted", "cluster": {"server": server}}],
        "contexts": [{"name": "scripted", "context": {"cluster": "scripted", "user": ""}}],
    });
    fs::write(&kubeconfig, text.to_string())?;
    let (sender, requests) = mpsc::channel();
    // The threads end with this process.
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            thread::spawn(move || {
                let request = read(&client)?;
                // This fails if the test no longer reads the requests.
                let _ = sender.send((Instant::now(), request.clone()));
                answer(&request, &client)
            });
        }
    });
    let scope = Scope::Namespace("default".to_owned());
    let source = ClientSource::Kubeconfig(Some(kubeconfig));
    let finder = Finder::start(settings(scope), source);
    Ok((finder, requests))
}

/// Reads a request to its end, and returns its first line; it has no body.
fn read(client: &TcpStream) -> io::Result<String> {
    client.set_read_timeout(Some(TIMEOUT))?;
    let mut lines = BufReader::new(client).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while !lines.next().transpose()?.unwrap_or_default().is_empty() {}
    Ok(first)
}
