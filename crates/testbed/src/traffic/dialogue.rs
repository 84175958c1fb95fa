//! Conversations in which one packet causes the next at once. A sensor must receive them in the order
//! of the wire.
//!
//! There are three: a query before its answer of several IP fragments, as in DNS; a line that
//! announces a port before the connection to that port, as in FTP; and many flows at the same time,
//! in which each packet of a flow is followed by a packet of another flow.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use socket2::{Domain, SockRef, Socket, Type};

use super::tcp::set_timeouts;
use super::{Family, TIMEOUT, failed, fill, join};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::namespace::Namespace;

/// The size of a query, in bytes.
const QUERY: usize = 40;

/// For each size in `answers`, sends a query from a new port of `from`, an address of the client. The
/// server answers it at once with a datagram of that size.
///
/// # Errors
/// [`Error::Damaged`] where an answer does not belong to the query, [`Error::System`] where none
/// arrives.
pub fn udp_exchanges(client: &Host, from: IpAddr, server: &Host, answers: &[usize]) -> Result<()> {
    let far = udp_socket(&server.namespace, Family::of(from).address(server))?;
    let to = local_address(&far)?;
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let mut query = [0; QUERY];
            for (number, size) in (0_u64..).zip(answers) {
                let (_, from) = far
                    .recv_from(&mut query)
                    .map_err(failed("receiving a query"))?;
                far.send_to(&payload(number, *size), from)
                    .map_err(failed("answering a query"))?;
            }
            Ok(())
        });
        for (number, size) in (0_u64..).zip(answers) {
            let near = udp_socket(&client.namespace, from)?;
            near.send_to(&payload(number, QUERY), to)
                .map_err(failed("sending a query"))?;
            let mut answer = vec![0; size + 1];
            let length = near
                .recv(&mut answer)
                .map_err(failed("awaiting an answer"))?;
            if answer.get(..length) != Some(&payload(number, *size)) {
                let what = format!("the answer of {size} bytes to query {number}");
                return Err(Error::Damaged { what });
            }
        }
        join(serving)
    })
}

/// Opens one control connection from `from`, an address of the client. The server announces a port
/// on it `count` times; each time the client connects to the port at once and receives `bytes` bytes.
///
/// # Errors
/// [`Error::Damaged`] where fewer bytes arrive, [`Error::System`] where a connection fails.
pub fn announced_connections(
    client: &Host,
    from: IpAddr,
    server: &Host,
    count: usize,
    bytes: usize,
) -> Result<()> {
    let address = Family::of(from).address(server);
    let control = listener(&server.namespace, address)?;
    let to = control
        .local_addr()
        .map_err(failed("opening a TCP socket"))?;
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let (mut control, _) = control.accept().map_err(failed("accepting a connection"))?;
            for _ in 0..count {
                let data = listener(&server.namespace, address)?;
                let port = data
                    .local_addr()
                    .map_err(failed("opening a TCP socket"))?
                    .port();
                control
                    .write_all(format!("227 {port}\r\n").as_bytes())
                    .map_err(failed("announcing a port"))?;
                let (mut data, _) = data.accept().map_err(failed("accepting a connection"))?;
                data.write_all(&payload(0, bytes))
                    .map_err(failed("writing to a TCP connection"))?;
            }
            Ok(())
        });
        let mut control = BufReader::new(connected(&client.namespace, from, to)?);
        for _ in 0..count {
            let mut line = String::new();
            control
                .read_line(&mut line)
                .map_err(failed("awaiting an announcement"))?;
            let port = line.trim_end().rsplit(' ').next();
            let port = port.and_then(|port| port.parse().ok()).unwrap_or_default();
            let mut data = connected(&client.namespace, from, SocketAddr::new(to.ip(), port))?;
            let mut received = Vec::new();
            data.read_to_end(&mut received)
                .map_err(failed("reading from a TCP connection"))?;
            if received != payload(0, bytes) {
                let what = format!("{} of {bytes} announced bytes", received.len());
                return Err(Error::Damaged { what });
            }
        }
        join(serving)
    })
}

/// Opens a flow from each of `sources`, addresses of the client; an address can occur several times.
/// In each of `rounds` every flow sends a datagram, one after the other, and the server answers it.
///
/// # Errors
/// [`Error::System`] where an answer does not arrive.
pub fn udp_interleaved(
    client: &Host,
    sources: &[IpAddr],
    server: &Host,
    rounds: usize,
) -> Result<()> {
    let Some(first) = sources.first() else {
        return Ok(());
    };
    let far = udp_socket(&server.namespace, Family::of(*first).address(server))?;
    let to = local_address(&far)?;
    let flows = sources
        .iter()
        .map(|from| udp_socket(&client.namespace, *from))
        .collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let mut bytes = [0; QUERY];
            for _ in 0..rounds * flows.len() {
                let (length, from) = far
                    .recv_from(&mut bytes)
                    .map_err(failed("receiving a datagram"))?;
                far.send_to(bytes.get(..length).unwrap_or_default(), from)
                    .map_err(failed("answering a datagram"))?;
            }
            Ok(())
        });
        for round in 0..rounds {
            for (flow, near) in flows.iter().enumerate() {
                near.send_to(&payload((round * flows.len() + flow) as u64, QUERY), to)
                    .map_err(failed("sending a datagram"))?;
            }
            for near in &flows {
                near.recv(&mut [0; QUERY])
                    .map_err(failed("awaiting an answer"))?;
            }
        }
        join(serving)
    })
}

/// The payload with this number: its bytes depend on the number.
fn payload(number: u64, size: usize) -> Vec<u8> {
    let mut payload = vec![0; size];
    fill(&mut payload, number.wrapping_mul(0x1_0001));
    payload
}

fn udp_socket(namespace: &Namespace, address: IpAddr) -> Result<UdpSocket> {
    let socket = namespace
        .run(|| UdpSocket::bind((address, 0)))
        .map_err(failed("opening a UDP socket"))?;
    socket
        .set_read_timeout(Some(TIMEOUT))
        .map_err(failed("setting a timeout"))?;
    Ok(socket)
}

fn local_address(socket: &UdpSocket) -> Result<SocketAddr> {
    socket.local_addr().map_err(failed("opening a UDP socket"))
}

fn listener(namespace: &Namespace, address: IpAddr) -> Result<TcpListener> {
    let listener = namespace
        .run(|| TcpListener::bind((address, 0)))
        .map_err(failed("listening for TCP"))?;
    // On Linux this timeout holds for accept(2) too (socket(7)).
    SockRef::from(&listener)
        .set_read_timeout(Some(TIMEOUT))
        .map_err(failed("setting a timeout"))?;
    Ok(listener)
}

/// A connection whose client's end has the address `from`.
fn connected(namespace: &Namespace, from: IpAddr, to: SocketAddr) -> Result<TcpStream> {
    let stream = namespace
        .run(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
            socket.connect_timeout(&to.into(), TIMEOUT)?;
            Ok(TcpStream::from(socket))
        })
        .map_err(failed("connecting over TCP"))?;
    set_timeouts(&stream)?;
    Ok(stream)
}
