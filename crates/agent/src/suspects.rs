//! Which sensors are not to be fed for now, although they are known.
//!
//! In: accusations (the network says that a sensor is unreachable), answers to our questions, and
//! the time. Out: which sensors to ask, and which to feed. A suspect's flows go to the others; it
//! gets them back when it answers, or when nobody has said it is unreachable for [`QUIET`]: for twice
//! as long each time that this was in vain, up to [`LONGEST`]. When all are suspects all are fed: to
//! stop would gain nothing, and the first that returns is fed at once.
//!
//! Decided without I/O: the time comes in, so tests need not wait.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use transmit::Answer;

/// Longer than the kernel takes to find out that a neighbour does not answer: three requests, a
/// second apart (`mcast_solicit`, `retrans_time_ms`).
const QUIET: Duration = Duration::from_secs(4);

/// The longest that a port which refuses again and again is left alone.
const LONGEST: Duration = Duration::from_mins(1);

/// How a sensor came to be a suspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accusation {
    /// There is no way to it, or nobody at its end.
    Unreachable,
    /// Its host is there and nobody listens on its port, where somebody should.
    Refused,
}

#[derive(Debug, Clone, Copy)]
struct Suspect {
    accusation: Accusation,
    /// When it was last accused.
    accused: Instant,
    /// How long it must have been quiet.
    patience: Duration,
}

/// The suspects among the sensors.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    now: BTreeMap<SocketAddr, Suspect>,
    /// Those that were let go although nobody had heard of them, and when and after how long.
    on_trial: BTreeMap<SocketAddr, (Instant, Duration)>,
}

impl Suspects {
    /// Takes an accusation, and says whether it makes a new suspect.
    pub(crate) fn accuse(
        &mut self,
        sensor: SocketAddr,
        accusation: Accusation,
        now: Instant,
    ) -> bool {
        // Let go in vain, and soon refused again: twice the time.
        let on_trial = self.on_trial.get(&sensor).copied();
        let patience = on_trial
            .filter(|(since, _)| now.saturating_duration_since(*since) < QUIET)
            .map_or(QUIET, |(_, before)| (before * 2).min(LONGEST));
        let suspect = Suspect {
            accusation,
            accused: now,
            patience,
        };
        match self.now.entry(sensor) {
            Entry::Vacant(place) => {
                place.insert(suspect);
                true
            }
            Entry::Occupied(mut known) => {
                let patience = known.get().patience;
                known.insert(Suspect {
                    patience,
                    ..suspect
                });
                false
            }
        }
    }

    /// Takes a host's answer, and says which sensors are no suspects any more.
    pub(crate) fn hear(&mut self, host: IpAddr, answer: Answer, now: Instant) -> Vec<SocketAddr> {
        let of_host = |sensor: &SocketAddr| sensor.ip() == host;
        match answer {
            Answer::Unreachable => {
                for (_, suspect) in self.now.iter_mut().filter(|(sensor, _)| of_host(sensor)) {
                    suspect.accused = now;
                }
                Vec::new()
            }
            // That the host is there says nothing about a port that refused.
            Answer::Reached => self.release(|sensor, suspect| {
                of_host(sensor) && suspect.accusation == Accusation::Unreachable
            }),
        }
    }

    /// Lets go whom nobody has accused for a while, and says who that is.
    pub(crate) fn let_go(&mut self, now: Instant) -> Vec<SocketAddr> {
        let quiet = |suspect: &Suspect| now.saturating_duration_since(suspect.accused);
        let released = self
            .now
            .extract_if(.., |_, suspect| quiet(suspect) >= suspect.patience);
        let released: Vec<_> = released.collect();
        for (sensor, suspect) in &released {
            self.on_trial.insert(*sensor, (now, suspect.patience));
        }
        released.into_iter().map(|(sensor, _)| sensor).collect()
    }

    /// Forgets who is not a sensor any more.
    pub(crate) fn retain(&mut self, is_sensor: impl Fn(&SocketAddr) -> bool) {
        self.now.retain(|sensor, _| is_sensor(sensor));
        self.on_trial.retain(|sensor, _| is_sensor(sensor));
    }

    /// The hosts to be asked.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = IpAddr> {
        self.now.keys().map(SocketAddr::ip)
    }

    /// Those of the sensors that are to be fed.
    pub(crate) fn fed<T: Clone>(
        &self,
        sensors: &[T],
        address: impl Fn(&T) -> SocketAddr,
    ) -> Vec<T> {
        let fed: Vec<T> = sensors
            .iter()
            .filter(|sensor| !self.now.contains_key(&address(sensor)))
            .cloned()
            .collect();
        if fed.is_empty() {
            sensors.to_vec()
        } else {
            fed
        }
    }

    fn release(&mut self, which: impl Fn(&SocketAddr, &Suspect) -> bool) -> Vec<SocketAddr> {
        self.now
            .extract_if(.., |sensor, suspect| which(sensor, suspect))
            .map(|(s, _)| s)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sensor(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 4789))
    }

    fn fed(suspects: &Suspects) -> Vec<SocketAddr> {
        suspects.fed(&[sensor(1), sensor(2)], |sensor| *sensor)
    }

    #[test]
    fn a_suspect_is_not_fed_until_its_host_answers() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        assert!(suspects.accuse(sensor(1), Accusation::Unreachable, now));
        assert!(!suspects.accuse(sensor(1), Accusation::Unreachable, now));
        assert_eq!(fed(&suspects), [sensor(2)]);
        assert_eq!(suspects.hosts().collect::<Vec<_>>(), [sensor(1).ip()]);
        assert!(
            suspects
                .hear(sensor(2).ip(), Answer::Reached, now)
                .is_empty()
        );
        assert_eq!(
            suspects.hear(sensor(1).ip(), Answer::Reached, now),
            [sensor(1)]
        );
        assert_eq!(fed(&suspects), [sensor(1), sensor(2)]);
    }

    #[test]
    fn silence_lets_a_suspect_go_and_an_answer_keeps_it() {
        let (mut suspects, start) = (Suspects::default(), Instant::now());
        suspects.accuse(sensor(1), Accusation::Unreachable, start);
        suspects.hear(sensor(1).ip(), Answer::Unreachable, start + QUIET / 2);
        assert!(suspects.let_go(start + QUIET).is_empty());
        assert_eq!(suspects.let_go(start + QUIET * 2), [sensor(1)]);
    }

    #[test]
    fn a_port_that_refused_is_tried_again_after_a_while() {
        let (mut suspects, start) = (Suspects::default(), Instant::now());
        suspects.accuse(sensor(1), Accusation::Refused, start);
        assert!(
            suspects
                .hear(sensor(1).ip(), Answer::Reached, start)
                .is_empty()
        );
        assert_eq!(suspects.let_go(start + QUIET), [sensor(1)]);
    }

    #[test]
    fn a_port_that_refuses_again_and_again_is_tried_ever_less_often() {
        let (mut suspects, mut now) = (Suspects::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..7 {
            suspects.accuse(sensor(1), Accusation::Refused, now);
            let accused = now;
            while suspects.let_go(now).is_empty() {
                now += Duration::from_secs(1);
            }
            waits.push((now - accused).as_secs());
            now += Duration::from_millis(250);
        }
        assert_eq!(waits, [4, 8, 16, 32, 60, 60, 60]);
        // It was well for a while in between.
        now += QUIET;
        suspects.accuse(sensor(1), Accusation::Refused, now);
        assert_eq!(suspects.let_go(now + QUIET), [sensor(1)]);
    }

    #[test]
    fn when_all_are_suspects_all_are_fed() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        for number in [1, 2] {
            suspects.accuse(sensor(number), Accusation::Unreachable, now);
        }
        assert_eq!(fed(&suspects), [sensor(1), sensor(2)]);
        suspects.retain(|address| *address == sensor(1));
        assert_eq!(fed(&suspects), [sensor(2)]);
    }
}
