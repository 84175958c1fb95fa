//! TCP: requests and responses over one kept connection, bulk, reset, refusal.
//!
//! Both ends run here, each with a socket in its own namespace, and both hash the bytes. A stream that
//! does not arrive as it was sent is an error, so a test can compare a mirrored copy with the hashes
//! of the outcome.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use super::{Family, StreamHash, TIMEOUT, failed, fill, join};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::namespace::Namespace;

/// Bytes that are written and read at once: enough that one write fills a BIG TCP frame.
const CHUNK: usize = 512 << 10;

/// The bytes of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpOutcome {
    /// The client's end.
    pub client: SocketAddr,
    /// The server's end.
    pub server: SocketAddr,
    /// Bytes from client to server.
    pub upstream: u64,
    /// Hash of these bytes.
    pub upstream_hash: StreamHash,
    /// Bytes from server to client.
    pub downstream: u64,
    /// Hash of these bytes.
    pub downstream_hash: StreamHash,
}

/// What one end of a connection has sent and received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Side {
    sent: u64,
    sent_hash: StreamHash,
    received: u64,
    received_hash: StreamHash,
}

impl Side {
    fn send(&mut self, to: &mut impl Write, bytes: &[u8]) -> Result<()> {
        to.write_all(bytes)
            .map_err(failed("writing to a TCP connection"))?;
        self.sent += bytes.len() as u64;
        self.sent_hash.update(bytes);
        Ok(())
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.received += bytes.len() as u64;
        self.received_hash.update(bytes);
    }

    /// Sends `length` bytes of the endless stream.
    fn send_body(&mut self, to: &mut impl Write, length: usize) -> Result<()> {
        let mut chunk = vec![0; CHUNK.min(length)];
        let mut left = length;
        while left > 0 {
            let now = left.min(CHUNK);
            let part = chunk.get_mut(..now).unwrap_or_default();
            fill(part, self.sent);
            self.send(to, part)?;
            left -= now;
        }
        Ok(())
    }

    fn receive_body(&mut self, from: &mut impl Read, length: usize) -> Result<()> {
        let mut body = vec![0; length];
        from.read_exact(&mut body)
            .map_err(failed("reading from a TCP connection"))?;
        self.receive(&body);
        Ok(())
    }

    /// Reads a head up to its empty line and returns the length of the body that follows. `None`
    /// at the end of the connection.
    fn receive_head(&mut self, from: &mut impl BufRead) -> Result<Option<usize>> {
        let mut length = 0;
        loop {
            let mut line = String::new();
            from.read_line(&mut line)
                .map_err(failed("reading from a TCP connection"))?;
            self.receive(line.as_bytes());
            match line.trim_end().split_once(": ") {
                _ if line.is_empty() => return Ok(None),
                Some(("Content-Length", value)) => length = value.parse().unwrap_or_default(),
                _ if line == "\r\n" => return Ok(Some(length)),
                _ => {}
            }
        }
    }
}

/// HTTP/1.1 over one kept connection: for each pair in `bodies` a POST with a body of the first
/// length, answered with one of the second, in bytes.
///
/// # Errors
/// [`Error::Damaged`] where either direction did not arrive as it was sent,
/// [`Error::System`] where the connection failed.
pub fn tcp_requests(
    client: &Host,
    server: &Host,
    family: Family,
    bodies: &[(usize, usize)],
) -> Result<TcpOutcome> {
    connected(
        client,
        server,
        family,
        |stream| {
            let mut side = Side::default();
            let mut reader = buffered(&stream)?;
            let mut writer = stream;
            for (number, (request, _)) in bodies.iter().enumerate() {
                let head = format!(
                    "POST /{number} HTTP/1.1\r\nHost: lab\r\nContent-Length: {request}\r\n\r\n"
                );
                side.send(&mut writer, head.as_bytes())?;
                side.send_body(&mut writer, *request)?;
                let length = side.receive_head(&mut reader)?.unwrap_or_default();
                side.receive_body(&mut reader, length)?;
            }
            Ok(side)
        },
        |stream| {
            let mut side = Side::default();
            let mut reader = buffered(&stream)?;
            let mut writer = stream;
            let mut answers = bodies.iter().map(|(_, response)| *response);
            while let Some(length) = side.receive_head(&mut reader)? {
                side.receive_body(&mut reader, length)?;
                let response = answers.next().unwrap_or_default();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {response}\r\n\r\n");
                side.send(&mut writer, head.as_bytes())?;
                side.send_body(&mut writer, response)?;
            }
            Ok(side)
        },
    )
}

/// Sends `bytes` bytes from client to server as fast as possible.
///
/// # Errors
/// As [`tcp_requests`].
pub fn tcp_bulk(client: &Host, server: &Host, family: Family, bytes: usize) -> Result<TcpOutcome> {
    connected(
        client,
        server,
        family,
        |mut stream| {
            let mut side = Side::default();
            side.send_body(&mut stream, bytes)?;
            Ok(side)
        },
        |mut stream| {
            let mut side = Side::default();
            let mut chunk = vec![0; CHUNK];
            loop {
                match stream
                    .read(&mut chunk)
                    .map_err(failed("reading from a TCP connection"))?
                {
                    0 => return Ok(side),
                    length => side.receive(chunk.get(..length).unwrap_or_default()),
                }
            }
        },
    )
}

/// A connection that the client resets after a few bytes (RST instead of FIN).
///
/// # Errors
/// [`Error::Damaged`] where the server gets anything but a reset, [`Error::System`].
pub fn reset_connection(client: &Host, server: &Host, family: Family) -> Result<()> {
    let listener = listen(server, family)?;
    let to = listener.local_addr().map_err(failed("listening"))?;
    let mut stream = connect(&client.namespace, to)?;
    let (mut peer, _) = listener
        .accept()
        .map_err(failed("accepting a TCP connection"))?;
    peer.set_read_timeout(Some(TIMEOUT))
        .map_err(failed("setting a timeout"))?;
    let mut byte = [0; 16];
    stream
        .write_all(&byte)
        .map_err(failed("writing to a TCP connection"))?;
    peer.read_exact(&mut byte)
        .map_err(failed("reading from a TCP connection"))?;
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .map_err(failed("setting SO_LINGER"))?;
    drop(stream);
    match peer.read(&mut byte) {
        Err(error) if error.raw_os_error() == Some(Errno::ECONNRESET as i32) => Ok(()),
        other => Err(Error::Damaged {
            what: format!("a reset connection gave {other:?}"),
        }),
    }
}

/// A connection to a port where nobody listens.
///
/// # Errors
/// [`Error::Damaged`] where it is not refused.
pub fn refused_connection(client: &Host, server: &Host, family: Family) -> Result<()> {
    // The port was free just before, and no other program runs in the namespace.
    let to = listen(server, family)?
        .local_addr()
        .map_err(failed("listening"))?;
    match client
        .namespace
        .run(|| TcpStream::connect_timeout(&to, TIMEOUT))
    {
        Err(error) if error.raw_os_error() == Some(Errno::ECONNREFUSED as i32) => Ok(()),
        other => Err(Error::Damaged {
            what: format!("a closed port gave {other:?}"),
        }),
    }
}

/// Runs both ends of a connection and compares what they sent and received.
fn connected(
    client: &Host,
    server: &Host,
    family: Family,
    client_end: impl FnOnce(TcpStream) -> Result<Side>,
    server_end: impl FnOnce(TcpStream) -> Result<Side> + Send,
) -> Result<TcpOutcome> {
    let listener = listen(server, family)?;
    let to = listener.local_addr().map_err(failed("listening"))?;
    let stream = connect(&client.namespace, to)?;
    let from = stream.local_addr().map_err(failed("connecting"))?;
    let (peer, _) = listener
        .accept()
        .map_err(failed("accepting a TCP connection"))?;
    set_timeouts(&peer)?;
    let (near, far) = thread::scope(|scope| {
        let far = scope.spawn(|| server_end(peer));
        let near = client_end(stream);
        (near, join(far))
    });
    let (near, far) = (near?, far?);
    let same = (near.sent, near.sent_hash, near.received, near.received_hash)
        == (far.received, far.received_hash, far.sent, far.sent_hash);
    if !same {
        return Err(Error::Damaged {
            what: format!("the TCP client has {near:?}, the server {far:?}"),
        });
    }
    Ok(TcpOutcome {
        client: from,
        server: to,
        upstream: near.sent,
        upstream_hash: near.sent_hash,
        downstream: near.received,
        downstream_hash: near.received_hash,
    })
}

fn listen(server: &Host, family: Family) -> Result<TcpListener> {
    let address = SocketAddr::from((family.address(server), 0));
    server
        .namespace
        .run(|| TcpListener::bind(address))
        .map_err(failed("listening for TCP"))
}

fn connect(client: &Namespace, to: SocketAddr) -> Result<TcpStream> {
    let doing = format!("connecting to {to}");
    let stream = client
        .run(|| TcpStream::connect_timeout(&to, TIMEOUT))
        .map_err(failed(&doing))?;
    set_timeouts(&stream)?;
    Ok(stream)
}

pub(super) fn set_timeouts(stream: &TcpStream) -> Result<()> {
    stream
        .set_read_timeout(Some(TIMEOUT))
        .map_err(failed("setting a timeout"))?;
    stream
        .set_write_timeout(Some(TIMEOUT))
        .map_err(failed("setting a timeout"))
}

fn buffered(stream: &TcpStream) -> Result<BufReader<TcpStream>> {
    stream
        .try_clone()
        .map(BufReader::new)
        .map_err(failed("duplicating a socket"))
}
