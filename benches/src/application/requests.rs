//! Requests and responses over TCP at a fixed rate, and how long each response takes.
//!
//! **Open loop**: each request has a moment at which it is due, from the rate alone. The client sends it then,
//! or as soon as it can, on one of a few connections in turns, and does not wait for earlier responses. The latency
//! is the time from the moment when the request was due to the last byte of its response. So a stop of the server
//! or of the client counts for all requests that were due in it (no coordinated omission). Client and server
//! are one thread each, pinned to a processor each.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll, ppoll};
use nix::sys::prctl::set_timerslack;
use nix::sys::time::TimeSpec;
use testbed::Lab;

use super::stand::{CLIENT, POD, pin};
use crate::error::Error as BenchError;
use crate::matrix::{Error, Result};

/// Bytes of a request and of its response.
const REQUEST: usize = 200;
const RESPONSE: usize = 1000;
const CONNECTIONS: usize = 8;
/// More requests without a response are an overload that only a full buffer would end.
const WAITING_MAX: usize = 20_000;
/// How long the last responses are awaited.
const LAST: Duration = Duration::from_millis(500);

/// Requests at a rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    per_second: f64,
    count: u32,
}

impl Schedule {
    /// Requests at this rate for this time.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of requests"
    )]
    pub fn new(per_second: f64, time: Duration) -> Self {
        let count = (per_second * time.as_secs_f64()) as u32;
        Self { per_second, count }
    }

    /// When a request is due, from the start on; `None` after the last.
    #[must_use]
    pub fn due(&self, number: u32) -> Option<Duration> {
        let due = || Duration::from_secs_f64(f64::from(number) / self.per_second);
        (number < self.count).then(due)
    }
}

/// What came of a schedule.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answered {
    /// How long each response took, in microseconds, in the order in which they arrived.
    pub micros: Vec<f64>,
    /// Requests without a response, sent or not.
    pub missing: usize,
}

/// Runs a schedule between the lab's client and its pod.
///
/// # Errors
/// Of sockets.
pub fn run(lab: &Lab, schedule: Schedule) -> Result<Answered> {
    let listen = || TcpListener::bind((lab.pod.ipv4, 0));
    let listener = lab.pod.namespace.run(listen).map_err(failed)?;
    let connect = || {
        let to = listener.local_addr()?;
        (0..CONNECTIONS).map(|_| TcpStream::connect(to)).collect()
    };
    let connections: std::io::Result<Vec<_>> = lab.client.namespace.run(connect);
    let connections = connections.map_err(failed)?;
    between(&listener, connections, schedule)
}

/// Ends when the client has closed its connections.
fn between(
    listener: &TcpListener,
    connections: Vec<TcpStream>,
    schedule: Schedule,
) -> Result<Answered> {
    let count = connections.len();
    thread::scope(|scope| {
        let server = scope.spawn(move || {
            pin(POD)?;
            serve(listener, count).map_err(failed)
        });
        let client = scope.spawn(move || {
            pin(CLIENT)?;
            // The kernel ends a sleep 50 us later otherwise, which would be in each latency.
            set_timerslack(1).map_err(|errno| failed(errno.into()))?;
            // Its end closes the connections. After an overload the server may be in a write that only this ends.
            ask(&connections, schedule).map_err(failed)
        });
        let answered = client.join().map_err(|_| BenchError::LoadFailed)?;
        server.join().map_err(|_| BenchError::LoadFailed)??;
        answered
    })
}

fn failed(source: std::io::Error) -> Error {
    let doing = "sending requests and responses";
    BenchError::Io { doing, source }.into()
}

/// The server: a response for each complete request, until all connections are closed.
fn serve(listener: &TcpListener, connections: usize) -> std::io::Result<()> {
    let mut open = Vec::new();
    for _ in 0..connections {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        open.push((stream, 0_usize));
    }
    let (mut buffer, response) = (vec![0; 64 << 10], [0x5a; RESPONSE]);
    while !open.is_empty() {
        let readable = readable(open.iter().map(|(stream, _)| stream), PollTimeout::NONE)?;
        let mut closed = Vec::new();
        for index in readable {
            let Some((stream, bytes)) = open.get_mut(index) else {
                continue;
            };
            // A connection that the client has closed with responses in it ends with an error.
            let read = stream.read(&mut buffer).unwrap_or_default();
            *bytes += read;
            let mut ended = read == 0;
            while *bytes >= REQUEST && !ended {
                *bytes -= REQUEST;
                ended = stream.write_all(&response).is_err();
            }
            if ended {
                closed.push(index);
            }
        }
        for index in closed.into_iter().rev() {
            open.remove(index);
        }
    }
    Ok(())
}

fn readable<'s>(
    streams: impl Iterator<Item = &'s TcpStream>,
    timeout: PollTimeout,
) -> std::io::Result<Vec<usize>> {
    let mut wanted: Vec<_> = streams
        .map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLIN))
        .collect();
    poll(&mut wanted, timeout)?;
    Ok(with_events(&wanted))
}

fn with_events(polled: &[PollFd<'_>]) -> Vec<usize> {
    let any = |one: &PollFd<'_>| one.revents().is_some_and(|events| !events.is_empty());
    let indices = polled.iter().enumerate().filter(|(_, one)| any(one));
    indices.map(|(index, _)| index).collect()
}

/// The requests of one connection that wait for a response.
#[derive(Debug, Default)]
struct Waiting {
    due: VecDeque<Duration>,
    /// Of a response that is not complete.
    bytes: usize,
}

impl Waiting {
    /// Takes bytes of responses, and returns the latencies of those that are complete.
    fn receive(&mut self, bytes: usize, now: Duration) -> impl Iterator<Item = f64> {
        self.bytes += bytes;
        let complete = (self.bytes / RESPONSE).min(self.due.len());
        self.bytes -= complete * RESPONSE;
        let done = self.due.drain(..complete);
        done.map(move |due| now.saturating_sub(due).as_secs_f64() * 1e6)
    }
}

fn ask(connections: &[TcpStream], schedule: Schedule) -> std::io::Result<Answered> {
    for connection in connections {
        connection.set_nodelay(true)?;
    }
    let mut waiting: Vec<Waiting> = connections.iter().map(|_| Waiting::default()).collect();
    let mut polled: Vec<_> = connections
        .iter()
        .map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLIN))
        .collect();
    let (mut buffer, request) = (vec![0; 64 << 10], [0xa5; REQUEST]);
    let mut answered = Answered::default();
    let (start, mut next, mut open) = (Instant::now(), 0, 0);
    loop {
        while let Some(due) = schedule.due(next).filter(|due| *due <= start.elapsed()) {
            let index = next as usize % connections.len();
            if let (Some(mut stream), Some(waiting)) =
                (connections.get(index), waiting.get_mut(index))
            {
                stream.write_all(&request)?;
                waiting.due.push_back(due);
            }
            (next, open) = (next + 1, open + 1);
        }
        let due = schedule.due(next);
        if open > WAITING_MAX || (open == 0 && due.is_none()) {
            break;
        }
        let timeout = due.map_or(LAST, |due| due.saturating_sub(start.elapsed()));
        match ppoll(&mut polled, Some(TimeSpec::from_duration(timeout)), None) {
            // The server has stopped.
            Ok(0) if due.is_none() => break,
            Ok(0) => continue,
            Ok(_) => (),
            Err(errno) => return Err(errno.into()),
        }
        for index in with_events(&polled) {
            let (Some(mut stream), Some(waiting)) =
                (connections.get(index), waiting.get_mut(index))
            else {
                continue;
            };
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let before = answered.micros.len();
            answered
                .micros
                .extend(waiting.receive(read, start.elapsed()));
            open -= answered.micros.len() - before;
        }
    }
    answered.missing = schedule.count as usize - answered.micros.len();
    Ok(answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_by_the_rate_alone() {
        let schedule = Schedule::new(1000.0, Duration::from_millis(3));
        let due: Vec<_> = (0..5).map(|number| schedule.due(number)).collect();
        let ms = |number| Some(Duration::from_millis(number));
        assert_eq!(due, [ms(0), ms(1), ms(2), None, None]);
    }

    #[test]
    fn a_latency_begins_when_the_request_was_due() {
        let ms = Duration::from_millis;
        let mut waiting = Waiting {
            due: [ms(1), ms(2), ms(9)].into(),
            bytes: 0,
        };
        let mut receive = |bytes, now| waiting.receive(bytes, now).collect::<Vec<_>>();
        assert_eq!(receive(RESPONSE - 1, ms(3)), [0.0; 0]);
        let both = receive(RESPONSE + 1, ms(5));
        assert!((both[0] - 4000.0).abs() < 1e-6 && (both[1] - 3000.0).abs() < 1e-6);
        assert_eq!(receive(RESPONSE, ms(10)).len(), 1);
        assert_eq!(receive(RESPONSE, ms(10)).len(), 0, "nobody asked for it");
    }

    #[test]
    fn each_request_gets_its_response() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let connections = (0..3).map(|_| TcpStream::connect(to).unwrap()).collect();
        let schedule = Schedule::new(2000.0, Duration::from_millis(50));
        let answered = thread::scope(|scope| {
            let server = scope.spawn(|| serve(&listener, 3).unwrap());
            let connections: Vec<TcpStream> = connections;
            let answered = ask(&connections, schedule).unwrap();
            drop(connections);
            server.join().unwrap();
            answered
        });
        assert_eq!((answered.micros.len(), answered.missing), (100, 0));
        assert!(answered.micros.iter().all(|micros| *micros > 0.0));
    }
}
