//! The control side without a network: what is due, and the answers of the crate `tunnel`'s other end.

use settings::Config;
use tunnel::responder::{Limits, Replies, Responder, ResponderConfig};
use tunnel::{PresharedKey, PresharedKeys, PrivateKey};

use super::keys::Sources;
use super::*;
use crate::sealing::Sessions;

/// Both ends of a tunnel.
struct Ends {
    tunnels: Tunnels,
    sessions: Sessions,
    sensor: SocketAddr,
    responder: Responder,
}

impl Ends {
    fn new(now: Instant) -> Self {
        let (private, preshared) = (PrivateKey::generate(), PresharedKey::generate());
        let vars = [
            ("SENSOR", "zeek".to_owned()),
            ("WG_SENSOR_KEY", private.public().to_string()),
            ("WG_PRESHARED_KEY", preshared.to_base64().to_string()),
        ];
        let vars = vars.map(|(name, value)| (name.into(), value.into()));
        let config = Config::from_vars(vars).unwrap();
        let files = KeyFiles::open(Sources::of(&config).unwrap()).unwrap();
        let (to_worker, sessions) = Sessions::channel(&[61_000]).unwrap();
        let mut tunnels = Tunnels::new([None, None], files, Inner::DEFAULT, to_worker);
        let sensor = SocketAddr::from(([10, 0, 0, 1], 51_820));
        tunnels.set_sensors([sensor].into_iter(), now);
        let responder = ResponderConfig {
            private,
            preshared: PresharedKeys::one(preshared),
            limits: Limits::default(),
        };
        Self {
            tunnels,
            sessions,
            sensor,
            responder: Responder::new(responder, now),
        }
    }

    /// Sends what is due, and takes the answer to it; returns whether there was something.
    fn exchange(&mut self, now: Instant) -> bool {
        let tunnel = self.tunnels.by_sensor.get_mut(&self.sensor).unwrap();
        let mut out = [0; INITIATION_LEN];
        let initiator = tunnel.initiator.as_mut();
        let Some(initiation) = initiator.and_then(|initiator| initiator.poll(now, &mut out)) else {
            return false;
        };
        let podspan = SocketAddr::from(([10, 0, 0, 99], 61_000));
        let (mut packet, mut replies) = (vec![0; 2000], Replies::new());
        // The sensor's end may refuse an initiation.
        let _ = self
            .responder
            .receive(initiation, podspan, now, &mut packet, &mut replies);
        for reply in replies.iter() {
            self.tunnels.receive(self.sensor, reply, now);
        }
        self.sessions.receive(now);
        true
    }
}

#[test]
fn reports_of_a_closed_port_start_one_handshake_a_second_at_most() {
    let start = Instant::now();
    let mut ends = Ends::new(start);
    let mut initiations = 0;
    // Somebody forges a report each 10 ms, and the sensor answers each handshake.
    for number in 0..1000 {
        let now = start + Duration::from_millis(10) * number;
        initiations += u32::from(ends.exchange(now));
        ends.tunnels.refutes_failure(ends.sensor, now);
        assert!(ends.tunnels.is_ready(ends.sensor, now));
    }
    assert!((9..=12).contains(&initiations), "{initiations}");
}

#[test]
fn a_report_within_a_second_after_another_one_is_not_forgotten() {
    let start = Instant::now();
    let mut ends = Ends::new(start);
    assert!(ends.exchange(start));
    ends.tunnels.refutes_failure(ends.sensor, start);
    assert!(ends.exchange(start));
    // The sensor is restarted once more, right after the handshake.
    ends.tunnels
        .refutes_failure(ends.sensor, start + Duration::from_millis(300));
    assert_eq!(ends.tunnels.due(), start + AGAIN);
    assert!(ends.exchange(start + AGAIN));
}

#[test]
fn an_answered_handshake_refutes_failures_for_a_short_time_and_no_other_sensors() {
    let start = Instant::now();
    let mut ends = Ends::new(start);
    assert!(!ends.tunnels.refutes_failure(ends.sensor, start));
    assert!(ends.exchange(start));
    assert!(ends.tunnels.refutes_failure(ends.sensor, start));
    let other = SocketAddr::from(([10, 0, 0, 2], 51_820));
    assert!(!ends.tunnels.refutes_failure(other, start));
    // It does not answer the handshake that this starts.
    assert!(!ends.tunnels.refutes_failure(ends.sensor, start + REFUTES));
    assert!(ends.exchange(start + REFUTES));
    assert!(ends.tunnels.refutes_failure(ends.sensor, start + REFUTES));
}
