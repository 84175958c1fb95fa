//! The pages of `METRICS` of a podspan in a pod.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use testbed::Host;

/// Longer than an answer takes.
const LIMIT: Duration = Duration::from_secs(10);

/// Where the pages are in each pod.
const ENDPOINT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9469);

/// Status and body of a page of the podspan in a pod, which may have just begun.
pub(crate) fn get(pod: &Host, path: &str) -> (u16, String) {
    let begun = Instant::now();
    pod.namespace.run(|| {
        loop {
            match ask(path) {
                Ok(answer) => return answer,
                Err(error) => assert!(begun.elapsed() < LIMIT, "{path}: {error}"),
            }
            thread::sleep(Duration::from_millis(10));
        }
    })
}

/// A connection of this thread, which is in the pod, that waits no longer than a test may.
pub(crate) fn connect() -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&ENDPOINT, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

fn ask(path: &str) -> io::Result<(u16, String)> {
    let mut stream = connect()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    Ok((status.parse().unwrap(), body.to_owned()))
}
