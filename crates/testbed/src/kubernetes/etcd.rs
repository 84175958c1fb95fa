//! etcd, listening on sockets in the control plane's folder only.
//!
//! Requests use its JSON gateway (the HTTP mapping of its gRPC API, `api/v3/rpc.proto`),
//! on the same socket: a request is a few lines of HTTP/1.0, so no etcdctl and no
//! gRPC client is needed.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::error::Error;

/// How long etcd may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// An address that nobody connects to.
const NOWHERE: &str = "http://127.0.0.1:1";

/// The socket for the API server and for this process.
pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join("etcd.sock")
}

/// Gives `command`, which runs etcd, its arguments. Data is not synced to disk: the tests kill processes, not machines.
pub(super) fn configure(command: &mut Command, folder: &Path) {
    let client = format!("unix://{}", socket(folder).display());
    let peer = format!("unix://{}", folder.join("etcd-peer.sock").display());
    command
        .arg("--name=etcd")
        .arg(format!("--data-dir={}", folder.join("etcd").display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        // Its addresses for other members. There are none, but a socket's path is not allowed here.
        .arg(format!("--advertise-client-urls={NOWHERE}"))
        .arg(format!("--initial-advertise-peer-urls={NOWHERE}"))
        .arg(format!("--initial-cluster=etcd={NOWHERE}"))
        .args(["--unsafe-no-fsync", "--log-level=warn"])
        .current_dir(folder);
}

/// The revision of the newest change.
pub(super) fn revision(folder: &Path) -> Result<i64, Error> {
    const PATH: &str = "/v3/maintenance/status";
    let answer = ask(folder, PATH, &json!({}))?;
    // int64 is a string in protobuf's JSON.
    answer["header"]["revision"]
        .as_str()
        .and_then(|revision| revision.parse().ok())
        .ok_or_else(|| Error::Etcd {
            path: PATH,
            answer: answer.to_string(),
        })
}

/// Deletes all older versions than `revision`.
pub(super) fn compact(folder: &Path, revision: i64) -> Result<(), Error> {
    let request = json!({"revision": revision.to_string(), "physical": true});
    ask(folder, "/v3/kv/compaction", &request).map(drop)
}

fn ask(folder: &Path, path: &'static str, request: &Value) -> Result<Value, Error> {
    let body = request.to_string();
    let mut answer = String::new();
    UnixStream::connect(socket(folder))
        .and_then(|mut stream| {
            stream.set_read_timeout(Some(TIMEOUT))?;
            write!(
                stream,
                "POST {path} HTTP/1.0\r\nHost: etcd\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
            stream.read_to_string(&mut answer)
        })
        .map_err(Error::io(format!("asking etcd for {path}")))?;
    let refused = || Error::Etcd {
        path,
        answer: answer.clone(),
    };
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(refused)?;
    if head.split(' ').nth(1) != Some("200") {
        return Err(refused());
    }
    serde_json::from_str(body).map_err(|_| refused())
}
