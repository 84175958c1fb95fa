//! Sends the frames of a load to the pod at a wanted rate.
//!
//! The frames enter at the node's ends of the pod's cables, so they reach the pod's interfaces as from
//! the bridge. A thread sends them in bursts with one system call, and sleeps when it is ahead. All of the
//! kernel's work for a frame on its way to the pod is done in this thread: the veth, the copy into
//! podspan's ring, and with tc the mirror and the whole way to the sensor.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use nix::time::ClockId;
use testbed::traffic::RawSocket;

use super::frames::Frames;
use crate::agent::cpu_time;
use crate::error::{Error, Result};

/// Frames of a burst at most.
const BURST: usize = 64;
/// When all frames that are due are sent.
const PAUSE: Duration = Duration::from_micros(300);

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Injected {
    /// Frames.
    pub frames: u64,
    /// CPU time of the thread.
    pub cpu: Duration,
    /// How long it took.
    pub time: Duration,
}

impl Injected {
    /// The rate that was reached.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let frames = self.frames as f64;
        frames / self.time.as_secs_f64().max(1e-9)
    }
}

/// Sends `count` frames, `per_second` of them in a second, on the interfaces in turns.
///
/// # Errors
/// [`Error::System`].
pub fn inject(
    sockets: &[RawSocket],
    frames: &mut Frames,
    count: u64,
    per_second: f64,
) -> Result<Injected> {
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BURST, None);
    let mut sockets = sockets.iter().cycle();
    let (start, mut sent, mut place) = (Instant::now(), 0, 0);
    let before = cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    while sent < count {
        let due = due(start.elapsed(), per_second).min(count);
        if due <= sent {
            thread::sleep(PAUSE);
            continue;
        }
        let most = usize::try_from(due - sent).unwrap_or(BURST).min(BURST);
        frames.set_flows(place, most, sent);
        let burst = frames.burst(place, most);
        if let Some(socket) = sockets.next() {
            send(socket, &mut headers, burst)?;
        }
        sent += burst.len() as u64;
        place = (place + burst.len()) % frames.len().max(1);
    }
    Ok(Injected {
        frames: sent,
        cpu: cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID)?.saturating_sub(before),
        time: start.elapsed(),
    })
}

fn send(
    socket: &RawSocket,
    headers: &mut MultiHeaders<SockaddrStorage>,
    burst: &[Vec<u8>],
) -> Result<()> {
    let addresses = [None; BURST];
    let mut sent = 0;
    while let Some(rest) = burst.get(sent..).filter(|rest| !rest.is_empty()) {
        let messages: Vec<[IoSlice<'_>; 1]> =
            rest.iter().map(|packet| [IoSlice::new(packet)]).collect();
        let result = sendmmsg(
            socket.as_fd().as_raw_fd(),
            headers,
            &messages,
            addresses,
            [],
            MsgFlags::empty(),
        );
        match result {
            Ok(results) => sent += results.count(),
            // The device's queue is full for a moment.
            Err(Errno::ENOBUFS) => thread::sleep(PAUSE),
            Err(source) => {
                return Err(Error::System {
                    doing: "sending the frames of a load",
                    source,
                });
            }
        }
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of frames"
)]
fn due(elapsed: Duration, per_second: f64) -> u64 {
    (elapsed.as_secs_f64() * per_second) as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_due_by_their_rate() {
        assert_eq!(due(Duration::ZERO, 1000.0), 1);
        assert_eq!(due(Duration::from_millis(500), 1000.0), 501);
    }
}
