//! Sensors that fail in every way, in time that does not pass.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::Failure::{Prohibited, Refused, Unreachable};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// More than an ejection and a return for each step of the backoff do not fit into a minute.
const CHANGES_A_MINUTE_MAX: usize = 10;

fn sensor(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 4789))
}

fn two(now: Instant) -> Ejections {
    let mut ejections = Ejections::default();
    ejections.update([sensor(1), sensor(2)].into_iter(), now);
    ejections
}

fn ejected(ejections: &Ejections) -> Vec<SocketAddr> {
    let all = ejections.sensors.keys();
    all.filter(|address| ejections.is_ejected(**address))
        .copied()
        .collect()
}

/// How long, to a second, the sensor 1 is ejected from now on.
fn lasts(ejections: &mut Ejections, now: &mut Instant) -> u64 {
    let start = *now;
    while ejections.is_ejected(sensor(1)) {
        *now += SECOND;
        ejections.tick(*now);
    }
    (*now - start).as_secs()
}

#[test]
fn an_unreachable_sensor_is_used_again_with_the_first_answer() {
    let now = Instant::now();
    let mut ejections = two(now);
    let failed = Evidence::Failed(Unreachable);
    let change = ejections.take(sensor(1), failed, now);
    assert_eq!(change, Some(Change::Ejected(Unreachable)));
    assert_eq!(ejections.take(sensor(1), failed, now), None, "no news");
    assert_eq!(ejected(&ejections), [sensor(1)]);
    assert_eq!(ejections.probed().collect::<Vec<_>>(), [sensor(1)]);
    ejections.take(sensor(2), Evidence::Answered, now);
    assert_eq!(ejections.tick(now), []);
    ejections.take(sensor(1), Evidence::Answered, now);
    assert_eq!(ejections.tick(now), [(sensor(1), Return::Answered)]);
    assert_eq!(ejected(&ejections), []);
}

#[test]
fn silence_ends_an_ejection_and_evidence_prolongs_it_up_to_the_bound() {
    let start = Instant::now();
    let mut ejections = two(start);
    ejections.take(sensor(1), Evidence::Failed(Unreachable), start);
    let mut now = start + QUIET / 2;
    ejections.take(sensor(1), Evidence::MayFail(Unreachable), now);
    assert_eq!(lasts(&mut ejections, &mut now), QUIET.as_secs());

    // This one fails for good: it is tried, and ejected again.
    let ends = (0..200).find(|seconds| {
        let now = now + SECOND * *seconds;
        ejections.take(sensor(1), Evidence::Failed(Unreachable), now);
        !ejections.tick(now).is_empty()
    });
    assert_eq!(ends.map(|seconds| SECOND * seconds), Some(EJECTION_MAX));
}

#[test]
fn a_port_that_refuses_again_and_again_is_tried_ever_less_often() {
    let mut now = Instant::now();
    let mut ejections = two(now);
    let mut waits = Vec::new();
    for _ in 0..7 {
        ejections.take(sensor(1), Evidence::Failed(Refused), now);
        // The host is there, which says nothing of the port.
        ejections.take(sensor(1), Evidence::Answered, now);
        waits.push(lasts(&mut ejections, &mut now));
        now += Duration::from_millis(250);
    }
    assert_eq!(waits, [4, 8, 16, 32, 60, 60, 60]);
    // It was used for a while in between.
    now += RESET;
    ejections.take(sensor(1), Evidence::Failed(Refused), now);
    assert_eq!(lasts(&mut ejections, &mut now), 4);
}

#[test]
fn a_sensor_that_comes_and_goes_returns_ever_later() {
    let mut now = Instant::now();
    let mut ejections = two(now);
    let mut waits = Vec::new();
    for _ in 0..7 {
        ejections.take(sensor(1), Evidence::Failed(Unreachable), now);
        ejections.take(sensor(1), Evidence::Answered, now);
        ejections.tick(now);
        waits.push(lasts(&mut ejections, &mut now));
    }
    assert_eq!(waits, [0, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn what_can_be_forged_ejects_only_where_nothing_answers() {
    let hint = Evidence::MayFail(Unreachable);
    let start = Instant::now();
    // What answers a second later, if anything; and whether the same evidence then ejects.
    for (answer, change) in [
        (None, Some(Change::Ejected(Unreachable))),
        (Some(Evidence::Answered), Some(Change::Unhealthy)),
        (Some(Evidence::Arrived), Some(Change::Unhealthy)),
    ] {
        let mut ejections = two(start);
        let first = ejections.take(sensor(1), hint, start);
        assert_eq!(first, Some(Change::Unhealthy));
        assert_eq!(ejections.probed().collect::<Vec<_>>(), [sensor(1)]);
        assert_eq!(ejections.take(sensor(1), hint, start + SECOND), None);
        if let Some(answer) = answer {
            ejections.take(sensor(1), answer, start + SECOND);
        }
        let second = ejections.take(sensor(1), hint, start + PROBE_TIME);
        assert_eq!(second, change, "{answer:?}");
    }
    // Two that have nothing to do with each other.
    let mut ejections = two(start);
    ejections.take(sensor(1), hint, start);
    let later = ejections.take(sensor(1), hint, start + FORGET);
    assert_eq!(later, Some(Change::Unhealthy));
    ejections.tick(start + FORGET * 2);
    assert_eq!(ejections.probed().count(), 0);
}

#[test]
fn a_firewall_on_the_way_is_not_cleared_by_another_port() {
    let hint = Evidence::MayFail(Prohibited);
    let start = Instant::now();
    for (answer, change) in [
        (Evidence::Answered, Change::Ejected(Prohibited)),
        (Evidence::Arrived, Change::Unhealthy),
    ] {
        let mut ejections = two(start);
        ejections.take(sensor(1), hint, start);
        ejections.take(sensor(1), answer, start + SECOND);
        let second = ejections.take(sensor(1), hint, start + PROBE_TIME);
        assert_eq!(second, Some(change));
    }
}

#[test]
fn the_last_sensor_is_never_ejected_and_all_are_forgiven() {
    let start = Instant::now();
    let mut ejections = two(start);
    let failed = Evidence::Failed(Refused);
    ejections.take(sensor(1), failed, start);
    let change = ejections.take(sensor(2), failed, start);
    assert_eq!(change, Some(Change::Forgiven(Refused)));
    assert_eq!(ejected(&ejections), []);
    let soon = start + EJECTION_LEAST / 2;
    assert_eq!(ejections.take(sensor(1), failed, soon), None, "held");
    let later = start + EJECTION_LEAST;
    let change = ejections.take(sensor(1), failed, later);
    assert_eq!(change, Some(Change::Ejected(Refused)));
    // Without the other it is the last one.
    ejections.update([sensor(1)].into_iter(), later);
    assert_eq!(ejected(&ejections), []);
    // One that comes need not wait until the others may be ejected again.
    assert_eq!(ejections.take(sensor(1), failed, later), None, "held");
    ejections.update([sensor(1), sensor(3)].into_iter(), later);
    let change = ejections.take(sensor(1), failed, later);
    assert_eq!(change, Some(Change::Ejected(Refused)));
}

#[test]
fn the_list_of_sensors_keeps_what_is_known_of_those_that_stay() {
    let now = Instant::now();
    let mut ejections = two(now);
    ejections.take(sensor(1), Evidence::Failed(Refused), now);
    ejections.update([sensor(1), sensor(3)].into_iter(), now);
    assert_eq!(ejected(&ejections), [sensor(1)]);
    ejections.take(sensor(2), Evidence::Failed(Refused), now);
    ejections.update([sensor(2), sensor(3)].into_iter(), now);
    assert_eq!(ejected(&ejections), []);
    assert_eq!(ejections.of_host(sensor(2).ip()), [sensor(2)]);
}

/// What a sensor's host does, and what the network says of it.
#[derive(Debug, Clone, Copy)]
enum Host {
    /// A sniffer: the host answers each probe, and says that nobody listens on the port.
    Sniffer,
    /// A socket: the host answers each probe, and nothing about the port.
    Socket,
    /// The host answers each probe, and its port refuses.
    Refuses,
    /// The same behind a firewall that speaks for it.
    Prohibited,
    /// It drops what it does not want.
    Silent,
    /// This machine's kernel cannot reach it.
    Dead,
    /// A router cannot reach it.
    DeadBehindRouter,
}

impl Host {
    /// What comes of datagrams that are mirrored to it.
    const fn of_traffic(self) -> Option<Evidence> {
        match self {
            Self::Sniffer => Some(Evidence::Arrived),
            Self::Refuses => Some(Evidence::Failed(Refused)),
            Self::Prohibited => Some(Evidence::MayFail(Failure::Prohibited)),
            Self::Dead => Some(Evidence::Failed(Unreachable)),
            Self::DeadBehindRouter => Some(Evidence::MayFail(Unreachable)),
            Self::Socket | Self::Silent => None,
        }
    }

    /// What comes of a probe.
    const fn of_probe(self) -> Option<Evidence> {
        match self {
            Self::Sniffer | Self::Socket | Self::Refuses | Self::Prohibited => {
                Some(Evidence::Answered)
            }
            Self::Dead | Self::DeadBehindRouter => self.of_traffic(),
            Self::Silent => None,
        }
    }
}

const HOSTS: usize = 3;

/// A moment of the model.
#[derive(Debug, Clone)]
struct Step {
    wait: Duration,
    which: usize,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    /// The host is another from now on.
    Becomes(Host),
    /// Evidence out of nowhere: forged, or late.
    Says(Evidence),
    Nothing,
}

fn any_host() -> impl Strategy<Value = Host> {
    use Host::*;
    prop::sample::select(vec![
        Sniffer,
        Socket,
        Refuses,
        Host::Prohibited,
        Silent,
        Dead,
        DeadBehindRouter,
    ])
}

fn any_evidence() -> impl Strategy<Value = Evidence> {
    let failure = prop::sample::select(vec![Unreachable, Refused, Prohibited]);
    prop_oneof![
        failure.clone().prop_map(Evidence::Failed),
        failure.prop_map(Evidence::MayFail),
        Just(Evidence::Answered),
        Just(Evidence::Arrived),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let what = prop_oneof![
        1 => any_host().prop_map(What::Becomes),
        6 => any_evidence().prop_map(What::Says),
        6 => Just(What::Nothing),
    ];
    let wait = prop_oneof![3 => 0_u64..300, 2 => 0_u64..3000, 1 => 0_u64..90_000];
    (wait, 0..HOSTS, what).prop_map(|(wait, which, what)| Step {
        wait: Duration::from_millis(wait),
        which,
        what,
    })
}

/// Hosts, and podspan as it reads a report four times a second and probes once.
struct Model {
    hosts: [Host; HOSTS],
    ejections: Ejections,
    now: Instant,
    /// Quarters of a second since the start.
    quarters: u32,
    /// Since when each is ejected.
    since: [Option<Instant>; HOSTS],
    /// When each was ejected or used again, in the last minute.
    changes: [VecDeque<Instant>; HOSTS],
}

impl Model {
    fn new(hosts: [Host; HOSTS]) -> Self {
        let now = Instant::now();
        let mut ejections = Ejections::default();
        ejections.update((0..HOSTS).map(address), now);
        Self {
            hosts,
            ejections,
            now,
            quarters: 0,
            since: [None; HOSTS],
            changes: Default::default(),
        }
    }

    fn run(&mut self, time: Duration) {
        for _ in 0..time.as_millis().div_ceil(250) {
            self.now += Duration::from_millis(250);
            self.quarters += 1;
            if self.quarters.is_multiple_of(4) {
                for sensor in self.ejections.probed().collect::<Vec<_>>() {
                    let host = self.hosts[usize::from(sensor.port()) - 1];
                    self.take(sensor, host.of_probe());
                }
                self.ejections.tick(self.now);
                self.check();
            }
            for (number, host) in self.hosts.into_iter().enumerate() {
                if !self.ejections.is_ejected(address(number)) {
                    self.take(address(number), host.of_traffic());
                }
            }
        }
    }

    fn take(&mut self, sensor: SocketAddr, evidence: Option<Evidence>) {
        if let Some(evidence) = evidence {
            self.ejections.take(sensor, evidence, self.now);
            self.check();
        }
    }

    /// What must hold at every moment.
    fn check(&mut self) {
        let minute = Duration::from_mins(1);
        let is_ejected: Vec<bool> = (0..HOSTS)
            .map(|number| self.ejections.is_ejected(address(number)))
            .collect();
        assert!(is_ejected.contains(&false), "one is used");
        for (number, is_ejected) in is_ejected.into_iter().enumerate() {
            let (since, changes) = (&mut self.since[number], &mut self.changes[number]);
            if is_ejected != since.is_some() {
                changes.push_back(self.now);
                *since = is_ejected.then_some(self.now);
            }
            changes.retain(|change| self.now - *change < minute);
            let count = changes.len();
            assert!(count <= CHANGES_A_MINUTE_MAX, "{count} changes");
            let lasted = since.map_or(Duration::ZERO, |since| self.now - since);
            assert!(lasted < EJECTION_MAX + SECOND, "out for {lasted:?}");
        }
    }
}

fn address(number: usize) -> SocketAddr {
    let port = u16::try_from(number + 1).unwrap();
    SocketAddr::from(([10, 0, 0, 1], port))
}

proptest! {
    /// The bound holds for every sensor, and so for those whose hosts answer.
    #[test]
    fn no_answers_eject_for_longer_than_the_bound_or_flap(
        hosts in prop::array::uniform3(any_host()),
        steps in prop::collection::vec(any_step(), 0..200),
    ) {
        let mut model = Model::new(hosts);
        for Step { wait, which, what } in steps {
            model.run(wait);
            match what {
                What::Becomes(host) => model.hosts[which] = host,
                What::Says(evidence) => model.take(address(which), Some(evidence)),
                What::Nothing => {}
            }
        }
        // All is well at last, and soon all are used.
        model.hosts = [Host::Sniffer, Host::Socket, Host::Silent];
        model.run(EJECTION_MAX + SECOND * 2);
        prop_assert_eq!(ejected(&model.ejections), []);
    }

    /// Whoever forges ICMP, but cannot keep the host's own answers from coming.
    #[test]
    fn nothing_forged_ejects_a_sensor_whose_host_answers(
        steps in prop::collection::vec((0_u64..2000, 0..HOSTS), 0..300),
    ) {
        let mut model = Model::new([Host::Sniffer, Host::Socket, Host::Socket]);
        for (wait, which) in steps {
            model.run(Duration::from_millis(wait));
            model.take(address(which), Some(Evidence::MayFail(Unreachable)));
            model.take(address(0), Some(Evidence::MayFail(Prohibited)));
            prop_assert_eq!(ejected(&model.ejections), []);
        }
    }
}
