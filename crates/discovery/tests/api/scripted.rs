//! The one case that no real API server can be brought to: its `Retry-After` is always one second,
//! which is no longer than our own wait. Here a listener answers each request with a longer one.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use discovery::{ClientSource, Scope};
use serde_json::json;

use crate::Outcome;
use crate::finder::{Finder, PATIENCE, settings};

/// What the answers ask for, in seconds.
const ASKED: u64 = 3;

pub(crate) fn retry_after() -> Outcome {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let server = format!("http://{}", listener.local_addr()?);
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "scripted", "users": [],
        "clusters": [{"name": "scripted", "cluster": {"server": server}}],
        "contexts": [{"name": "scripted", "context": {"cluster": "scripted", "user": ""}}],
    });
    std::fs::write(&kubeconfig, text.to_string())?;
    let (asked, requests) = mpsc::channel();
    // It ends with this process, or when nobody counts any more.
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let answered = refuse(&client);
            if answered.is_ok() && asked.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    let scope = Scope::Namespace("default".to_owned());
    let finder = Finder::start(settings(scope), ClientSource::Kubeconfig(Some(kubeconfig)));
    finder.until_logged(&["WARN", "(429)", "come back in 3s"]);
    let mut before: Instant = requests.recv_timeout(PATIENCE)?;
    for _ in 0..2 {
        let next = requests.recv_timeout(PATIENCE)?;
        let waited = next - before;
        assert!(waited >= Duration::from_secs(ASKED), "only {waited:?}");
        before = next;
    }
    Ok(())
}

/// Reads one request and answers it with a 429.
fn refuse(mut client: &TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(client).lines();
    while !lines.next().transpose()?.unwrap_or_default().is_empty() {}
    write!(
        client,
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: {ASKED}\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    )
}
