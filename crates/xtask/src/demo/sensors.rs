//! The sensors, and what each of them gets.
//!
//! In: what arrives at the sensors' interfaces. Each sensor decodes for itself; behind the decoders
//! they are one: one gauge counts, one oracle judges, one file is written. So a datagram whose
//! fragments went to two sensors is still one, and what crossed once must have arrived once, no
//! matter where.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use testbed::{Anomaly, CaptureTotals, Decoded, Decoder, Filter, FrameRef, Host, Sink, Sniffer};

use super::tap::Arrived;
use crate::failure::Result;

/// Where copies may go.
#[derive(Debug, Clone)]
pub(super) struct Sensor {
    pub(super) host: Host,
    /// Where podspan sends to.
    pub(super) address: SocketAddr,
}

/// What one sensor has got of the frames that count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) frames: u64,
    /// When the kernel saw the first and the last one, since 1970.
    pub(super) times: Option<(Duration, Duration)>,
}

impl Tally {
    fn add(&mut self, time: Duration) {
        self.frames += 1;
        let first = self.times.map_or(time, |(first, _)| first);
        self.times = Some((first, time));
    }
}

/// What one sensor has got, and what fills it.
type Capture = (Arc<Mutex<Tally>>, Sniffer<Decoded<One>>);

/// Captures at all sensors.
pub(super) struct AtSensors {
    arrived: Arc<Mutex<Arrived>>,
    running: Vec<Capture>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Received {
    /// In the sensors' order.
    pub(super) tallies: Vec<Tally>,
    /// Faults of the outer datagrams.
    pub(super) anomalies: Vec<(Anomaly, u64)>,
    pub(super) captures: Vec<CaptureTotals>,
}

impl AtSensors {
    /// Starts capturing; each sensor gets a decoder of its own like `decoder`.
    pub(super) fn start(sensors: &[Sensor], decoder: &Decoder, arrived: Arrived) -> Result<Self> {
        let arrived = Arc::new(Mutex::new(arrived));
        let start = |sensor: &Sensor| {
            let tally = Arc::new(Mutex::new(Tally::default()));
            let sink = Decoded {
                decoder: decoder.clone(),
                sink: One {
                    tally: Arc::clone(&tally),
                    all: Arc::clone(&arrived),
                },
            };
            let namespace = &sensor.host.namespace;
            Ok((
                tally,
                Sniffer::start(namespace, "eth0", Filter::Incoming, sink)?,
            ))
        };
        let running = sensors.iter().map(start).collect::<Result<_>>()?;
        Ok(Self { arrived, running })
    }

    /// What each has got until now, in the sensors' order.
    pub(super) fn tallies(&self) -> Vec<Tally> {
        self.running.iter().map(|(tally, _)| *lock(tally)).collect()
    }

    /// Ends the captures and completes the file.
    pub(super) fn stop(self) -> Result<Received> {
        let mut received = Received {
            tallies: Vec::new(),
            anomalies: Vec::new(),
            captures: Vec::new(),
        };
        for (tally, sniffer) in self.running {
            let (sink, totals) = sniffer.stop()?;
            received.tallies.push(*lock(&tally));
            let anomalies = sink.decoder.anomalies().iter();
            received
                .anomalies
                .extend(anomalies.map(|(anomaly, count)| (*anomaly, *count)));
            received.captures.push(totals);
        }
        lock(&self.arrived).finish()?;
        Ok(received)
    }
}

/// Behind one sensor's decoder.
struct One {
    tally: Arc<Mutex<Tally>>,
    all: Arc<Mutex<Arrived>>,
}

impl Sink for One {
    fn take(&mut self, frame: FrameRef<'_>) {
        if lock(&self.all).takes(frame) {
            lock(&self.tally).add(frame.time);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_keeps_the_first_and_the_last_time() {
        let mut tally = Tally::default();
        for second in [5, 6, 9] {
            tally.add(Duration::from_secs(second));
        }
        let times = Some((Duration::from_secs(5), Duration::from_secs(9)));
        assert_eq!(tally, Tally { frames: 3, times });
    }
}
