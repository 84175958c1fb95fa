//! The sensors, and the frames that each of them receives.
//!
//! In: the frames that arrive at the sensors' interfaces. Each sensor has its own decoder. All decoders
//! share one counter, one verifier and one file. So a datagram whose fragments went to two sensors
//! is still one datagram, and each frame that passed the pod's eth0 once must arrive once, at any
//! sensor.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use testbed::{Anomaly, CaptureTotals, Decoded, Decoder, Filter, FrameRef, Host, Sink, Sniffer};

use super::counters::SensorCounter;
use crate::failure::Result;

/// A host of the lab that receives copies.
#[derive(Debug, Clone)]
pub(super) struct SensorHost {
    pub(super) host: Host,
    /// The address that podspan sends to.
    pub(super) address: SocketAddr,
}

/// The counted frames that one sensor has received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Arrivals {
    pub(super) frames: u64,
    /// When the kernel saw the first and the last one, since 1970.
    pub(super) times: Option<(Duration, Duration)>,
}

impl Arrivals {
    fn add(&mut self, time: Duration) {
        self.frames += 1;
        let first = self.times.map_or(time, |(first, _)| first);
        self.times = Some((first, time));
    }
}

/// What one sensor has received, and the sniffer that updates it.
type Capture = (Arc<Mutex<Arrivals>>, Sniffer<Decoded<OneSensor>>);

/// Captures at all sensors.
pub(super) struct SensorCaptures {
    counter: Arc<Mutex<SensorCounter>>,
    running: Vec<Capture>,
}

/// The result of the captures.
#[derive(Debug)]
pub(super) struct Received {
    /// In the sensors' order.
    pub(super) arrivals: Vec<Arrivals>,
    /// Faults of the outer datagrams.
    pub(super) anomalies: Vec<(Anomaly, u64)>,
    pub(super) captures: Vec<CaptureTotals>,
}

impl SensorCaptures {
    /// Starts to capture; each sensor gets its own copy of `decoder`.
    pub(super) fn start(
        sensors: &[SensorHost],
        decoder: &Decoder,
        counter: SensorCounter,
    ) -> Result<Self> {
        let counter = Arc::new(Mutex::new(counter));
        let start = |sensor: &SensorHost| {
            let arrivals = Arc::new(Mutex::new(Arrivals::default()));
            let sink = Decoded {
                decoder: decoder.clone(),
                sink: OneSensor {
                    arrivals: Arc::clone(&arrivals),
                    all: Arc::clone(&counter),
                },
            };
            let namespace = &sensor.host.namespace;
            Ok((
                arrivals,
                Sniffer::start(namespace, "eth0", Filter::Incoming, sink)?,
            ))
        };
        let running = sensors.iter().map(start).collect::<Result<_>>()?;
        Ok(Self { counter, running })
    }

    /// What each has received so far, in the sensors' order.
    pub(super) fn arrivals(&self) -> Vec<Arrivals> {
        self.running
            .iter()
            .map(|(arrivals, _)| *lock(arrivals))
            .collect()
    }

    /// Ends the captures and completes the file.
    pub(super) fn stop(self) -> Result<Received> {
        let mut received = Received {
            arrivals: Vec::new(),
            anomalies: Vec::new(),
            captures: Vec::new(),
        };
        for (arrivals, sniffer) in self.running {
            let (sink, totals) = sniffer.stop()?;
            received.arrivals.push(*lock(&arrivals));
            let anomalies = sink.decoder.anomalies().iter();
            received
                .anomalies
                .extend(anomalies.map(|(anomaly, count)| (*anomaly, *count)));
            received.captures.push(totals);
        }
        lock(&self.counter).finish()?;
        Ok(received)
    }
}

/// Receives the frames of one sensor's decoder.
struct OneSensor {
    arrivals: Arc<Mutex<Arrivals>>,
    all: Arc<Mutex<SensorCounter>>,
}

impl Sink for OneSensor {
    fn receive(&mut self, frame: FrameRef<'_>) {
        if lock(&self.all).add(frame) {
            lock(&self.arrivals).add(frame.time);
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
    fn the_first_and_the_last_time_are_kept() {
        let mut arrivals = Arrivals::default();
        for second in [5, 6, 9] {
            arrivals.add(Duration::from_secs(second));
        }
        let times = Some((Duration::from_secs(5), Duration::from_secs(9)));
        assert_eq!(arrivals, Arrivals { frames: 3, times });
    }
}
