//! What a sensor's end of the tunnel does for one initiation: refuses it, sends a cookie, answers it.
//!
//! Each initiation is made before, by a new podspan, and taken once. The times are medians of rounds.

use std::net::SocketAddr;
use std::time::Instant;

use tunnel::initiator::{Identity, Initiator, InitiatorConfig};
use tunnel::protocol::INITIATION_LEN;
use tunnel::responder::{Limits, Replies, Responder, ResponderConfig};
use tunnel::{Inner, PresharedKey, PresharedKeys, PrivateKey};

use crate::cycles::{nanoseconds, timed};
use crate::statistics::median;
use crate::table::{Align, Table};

const ROUNDS: usize = 11;
/// Initiations in a round.
const INITIATIONS: u16 = 50;

/// What is done with the initiations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// Made with another public key.
    Refused,
    /// Under load.
    Cookie,
    /// With one pre-shared key.
    OneKey,
    /// With two.
    TwoKeys,
}

const CASES: [(Case, &str); 4] = [
    (Case::Refused, "refused by mac1"),
    (Case::Cookie, "a cookie is sent"),
    (Case::OneKey, "answered, one pre-shared key"),
    (Case::TwoKeys, "answered, two pre-shared keys"),
];

/// Measures all cases.
#[must_use]
pub fn table() -> Table {
    let mut table = Table::new(&[("initiation", Align::Left), ("microseconds", Align::Right)]);
    for (case, name) in CASES {
        let times = (0..ROUNDS).map(|_| round(case));
        let time = median(times).unwrap_or(f64::NAN);
        table.row([name.to_owned(), format!("{:.1}", time / 1e3)]);
    }
    table
}

/// The time of one initiation, in nanoseconds.
fn round(case: Case) -> f64 {
    let now = Instant::now();
    let (sensor, preshared) = (PrivateKey::generate(), PresharedKey::generate());
    let to = if case == Case::Refused {
        PrivateKey::generate().public()
    } else {
        sensor.public()
    };
    let initiations: Vec<_> = (0..INITIATIONS)
        .map(|number| {
            let config = InitiatorConfig {
                identity: Identity::Fresh,
                sensor: to,
                preshared: preshared.clone(),
                inner: Inner::DEFAULT,
            };
            let mut initiation = [0; INITIATION_LEN];
            let mut initiator = Initiator::new(config, number.into(), now);
            initiator.poll(now, &mut initiation);
            initiation
        })
        .collect();
    let mut responder = Responder::new(config(case, sensor, preshared), now);
    let (mut out, mut replies) = ([0; 200], Replies::new());
    let from = SocketAddr::from(([10, 0, 0, 1], 1));
    let mut receive = |initiation: &[u8]| {
        let received = responder.receive(initiation, from, now, &mut out, &mut replies);
        received.is_ok()
    };
    let Some((first, others)) = initiations.split_first() else {
        return f64::NAN;
    };
    // It uses up what is given without a cookie.
    assert_eq!(receive(first), case != Case::Refused);
    let time = timed(|| {
        for initiation in others {
            let answered = matches!(case, Case::OneKey | Case::TwoKeys);
            assert_eq!(receive(initiation), answered);
        }
    });
    nanoseconds(time) / f64::from(INITIATIONS - 1)
}

fn config(case: Case, private: PrivateKey, preshared: PresharedKey) -> ResponderConfig {
    let unlimited = 1_000_000;
    let preshared = if case == Case::TwoKeys {
        PresharedKeys::two(PresharedKey::generate(), preshared)
    } else {
        PresharedKeys::one(preshared)
    };
    ResponderConfig {
        private,
        preshared,
        limits: Limits {
            handshakes: unlimited,
            per_source: unlimited,
            without_cookie: if case == Case::Cookie { 1 } else { unlimited },
            ..Limits::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_what_it_is_named() {
        assert!(CASES.iter().all(|(case, _)| round(*case) > 0.0));
    }
}
