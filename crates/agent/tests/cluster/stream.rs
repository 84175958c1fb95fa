//! Numbered datagrams in many flows from the client to the pod, and the copies that each sensor
//! received.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use testbed::{CaptureTotals, Decoded, Decoder, Filter, FrameRef, Host, Lab, Sniffer};

use crate::fixture::{PORT, VNI};

/// Where the pod receives them.
pub(crate) const TO: u16 = 7777;
/// Where it receives those of another stream.
pub(crate) const OTHER: u16 = 7778;
/// Ethernet, IPv4 and UDP header, and the payload.
const LENGTH: usize = 14 + 20 + 8 + PAYLOAD;
const PAYLOAD: usize = 22;

/// A sender that is this late continues from there: what it missed would be a flood.
const LATE: Duration = Duration::from_millis(100);

/// A stream of datagrams that runs until it is stopped.
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    thread: JoinHandle<()>,
    // Nobody reads it. While it is open, the host sends no ICMP errors.
    _receiver: UdpSocket,
}

impl Stream {
    /// Sends this many datagrams a second, the flows in turn.
    pub(crate) fn start(lab: &Lab, flows: usize, per_second: u32) -> Result<Self, Failed> {
        Self::to_port(TO, lab, flows, per_second)
    }

    /// The same to a port of the pod: [`TO`] or [`OTHER`].
    pub(crate) fn to_port(
        port: u16,
        lab: &Lab,
        flows: usize,
        per_second: u32,
    ) -> Result<Self, Failed> {
        let to = (lab.pod.ipv4, port);
        let receiver = lab.pod.namespace.run(|| UdpSocket::bind(to))?;
        let sockets: Vec<UdpSocket> = lab.client.namespace.run(|| {
            let open = |_| -> std::io::Result<UdpSocket> {
                let socket = UdpSocket::bind((lab.client.ipv4, 0))?;
                socket.connect(to)?;
                Ok(socket)
            };
            (0..flows).map(open).collect::<Result<_, _>>()
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU32::new(0));
        let (stopping, counting) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = thread::spawn(move || {
            let mut start = Instant::now();
            for (number, socket) in (0..).zip(sockets.iter().cycle()) {
                if stopping.load(Ordering::Relaxed) {
                    break;
                }
                let due = Duration::from_secs(1) * number / per_second;
                let elapsed = start.elapsed();
                thread::sleep(due.saturating_sub(elapsed));
                let late = elapsed.saturating_sub(due);
                if late > LATE {
                    start += late;
                }
                let mut payload = [0; PAYLOAD];
                payload[..4].copy_from_slice(&u32::to_be_bytes(number));
                socket.send(&payload).unwrap();
                counting.store(number + 1, Ordering::Relaxed);
            }
        });
        Ok(Self {
            stop,
            sent,
            thread,
            _receiver: receiver,
        })
    }

    /// How many have been sent.
    pub(crate) fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops it, waits until the last copy has arrived, and returns how many datagrams were sent.
    pub(crate) fn stop(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        thread::sleep(Duration::from_millis(300));
        self.sent.load(Ordering::Relaxed)
    }
}

/// A copy that arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copied {
    /// When, since 1970.
    pub(crate) time: Duration,
    /// Its flow: the client's port.
    pub(crate) flow: u16,
    /// Its stream: the pod's port.
    pub(crate) to: u16,
    pub(crate) number: u32,
}

type OnFrame = Box<dyn FnMut(FrameRef<'_>) + Send>;

/// Captures the copies at a sensor.
pub(crate) struct Tap {
    copies: Arc<Mutex<Vec<Copied>>>,
    sniffer: Sniffer<Decoded<OnFrame>>,
}

impl Tap {
    pub(crate) fn start(host: &Host) -> Result<Self, Failed> {
        Self::with_mtu(host, 1500)
    }

    /// A tap that counts an outer packet above `mtu` as a fault.
    pub(crate) fn with_mtu(host: &Host, mtu: usize) -> Result<Self, Failed> {
        let copies = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&copies);
        let sink = move |frame: FrameRef<'_>| seen.lock().unwrap().extend(copied(frame));
        let decoded = Decoded {
            decoder: Decoder::new(VNI, PORT, mtu),
            sink: Box::new(sink) as OnFrame,
        };
        let sniffer = Sniffer::start(&host.namespace, "eth0", Filter::Incoming, decoded)?;
        Ok(Self { copies, sniffer })
    }

    /// How many copies have arrived.
    pub(crate) fn count(&self) -> usize {
        self.copies.lock().unwrap().len()
    }

    /// The copies of a stream since a time, so far.
    pub(crate) fn times_since(&self, to: u16, since: Duration) -> Vec<Duration> {
        let copies = self.copies.lock().unwrap();
        let later = copies
            .iter()
            .filter(|copy| copy.to == to && copy.time >= since);
        later.map(|copy| copy.time).collect()
    }

    /// Stops it. Returns the copies, and the number of all datagrams from podspan.
    pub(crate) fn stop(self) -> Result<(Vec<Copied>, u64), Failed> {
        let (Decoded { decoder, .. }, CaptureTotals { dropped, .. }) = self.sniffer.stop()?;
        assert_eq!(dropped, 0, "the tap kept up");
        assert!(decoder.anomalies().is_empty(), "{:?}", decoder.anomalies());
        let copies = std::mem::take(&mut *self.copies.lock().unwrap());
        Ok((copies, decoder.decoded()))
    }
}

/// The numbered datagram in a copy, if it has one.
pub(crate) fn copied(frame: FrameRef<'_>) -> Option<Copied> {
    let ipv4_udp = frame.bytes.get(12..14) == Some(&[8, 0]) && frame.bytes.get(23) == Some(&17);
    let short = |at| Some(u16::from_be_bytes(*frame.bytes.get(at..)?.first_chunk()?));
    let to = short(36)?;
    if !ipv4_udp || frame.bytes.len() != LENGTH || ![TO, OTHER].contains(&to) {
        return None;
    }
    Some(Copied {
        time: frame.time,
        flow: short(34)?,
        to,
        number: u32::from_be_bytes(*frame.bytes.get(42..)?.first_chunk()?),
    })
}

/// Asserts that no datagram of `sent` has two copies, and returns the numbers of those without one.
pub(crate) fn missing<'c>(sent: u32, copies: impl IntoIterator<Item = &'c Copied>) -> Vec<u32> {
    let mut counts: BTreeMap<u32, u32> = (0..sent).map(|number| (number, 0)).collect();
    for copy in copies {
        let count = counts
            .get_mut(&copy.number)
            .expect("a number that was sent");
        *count += 1;
        assert_eq!(*count, 1, "{} arrived twice", copy.number);
    }
    let none = counts.into_iter().filter(|(_, count)| *count == 0);
    none.map(|(number, _)| number).collect()
}
