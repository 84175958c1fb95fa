//! Hosts that live, die and refuse, somebody who forges, a list that changes, and podspan among them:
//! what holds at every moment.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// An ejection and a return for each of the five steps of the backoff, and one more pair where a
/// sensor returns before its time.
const CHANGES_A_MINUTE_MAX: usize = 12;

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
    /// The sensor leaves the list, or comes back.
    ComesOrGoes,
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
    prop_oneof![
        1 => Just(Evidence::Failed(Unreachable)),
        5 => any_forged(),
    ]
}

/// What anybody can forge.
fn any_forged() -> impl Strategy<Value = Evidence> {
    prop::sample::select(vec![
        Evidence::Failed(Refused),
        Evidence::Failed(Prohibited),
        Evidence::MayFail(Unreachable),
        Evidence::MayFail(Refused),
        Evidence::MayFail(Prohibited),
        Evidence::Answered,
        Evidence::Arrived,
    ])
}

fn any_step() -> impl Strategy<Value = Step> {
    let what = prop_oneof![
        2 => Just(What::ComesOrGoes),
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

/// How often the kernel tells that a neighbour is silent: after three requests, and at the next probe.
const KERNEL_TELLS: u32 = 4;

/// Hosts, and podspan as it reads a report four times a second and probes once.
struct Model {
    hosts: [Host; HOSTS],
    /// Which of them are in the list.
    listed: [bool; HOSTS],
    ejections: Ejections,
    now: Instant,
    /// Quarters of a second since the start.
    quarters: u32,
    /// In how many of them each was used.
    used: [u32; HOSTS],
    /// Since when each is ejected.
    since: [Option<Instant>; HOSTS],
    /// When each was ejected or used again, in the last minute.
    changes: [VecDeque<Instant>; HOSTS],
    /// How many changes there were in all.
    total: usize,
}

impl Model {
    fn new(hosts: [Host; HOSTS]) -> Self {
        let mut model = Self {
            hosts,
            listed: [true; HOSTS],
            ejections: Ejections::default(),
            now: Instant::now(),
            quarters: 0,
            used: [0; HOSTS],
            since: [None; HOSTS],
            changes: Default::default(),
            total: 0,
        };
        model.update();
        model
    }

    /// Without the third.
    fn of_two(first: Host, second: Host) -> Self {
        let mut model = Self::new([first, second, Host::Socket]);
        model.come_or_go(2);
        model
    }

    fn come_or_go(&mut self, which: usize) {
        self.listed[which] = !self.listed[which];
        self.update();
    }

    fn update(&mut self) {
        let listed = (0..HOSTS).filter(|number| self.listed[*number]);
        self.ejections.update(listed.map(address), self.now);
        self.check();
    }

    fn run(&mut self, time: Duration) {
        for _ in 0..time.as_millis().div_ceil(250) {
            self.now += Duration::from_millis(250);
            self.quarters += 1;
            if self.quarters.is_multiple_of(4) {
                for sensor in self.ejections.probed().collect::<Vec<_>>() {
                    let host = self.hosts[usize::from(sensor.port()) - 1];
                    self.take_from(host, sensor, host.of_probe());
                }
                self.ejections.tick(self.now);
                self.check();
            }
            for (number, host) in self.hosts.into_iter().enumerate() {
                if self.listed[number] && !self.ejections.is_ejected(address(number)) {
                    self.used[number] += 1;
                    self.take_from(host, address(number), host.of_traffic());
                }
            }
        }
    }

    /// Takes what comes of a host, which is seldom where nothing is there.
    fn take_from(&mut self, host: Host, sensor: SocketAddr, evidence: Option<Evidence>) {
        let is_due = self.quarters.is_multiple_of(4 * KERNEL_TELLS);
        if !matches!(host, Host::Dead) || is_due {
            self.take(sensor, evidence);
        }
    }

    /// Which share of the time a sensor was used, in percent.
    fn share(&self, number: usize) -> u32 {
        self.used[number] * 100 / self.quarters
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
        let listed = (0..HOSTS).filter(|number| self.listed[*number]);
        let is_ejected: Vec<(usize, bool)> = listed
            .map(|number| (number, self.ejections.is_ejected(address(number))))
            .collect();
        let is_one_used = is_ejected.iter().any(|(_, is_ejected)| !is_ejected);
        assert!(is_one_used || is_ejected.is_empty(), "one is used");
        for (number, is_ejected) in is_ejected {
            let (since, changes) = (&mut self.since[number], &mut self.changes[number]);
            if is_ejected != since.is_some() {
                self.total += 1;
                changes.push_back(self.now);
                *since = is_ejected.then_some(self.now);
            }
            changes.retain(|change| self.now - *change < minute);
            let count = changes.len();
            assert!(count <= CHANGES_A_MINUTE_MAX, "{count} changes");
            let out = since.map_or(Duration::ZERO, |since| self.now - since);
            assert!(out < EJECTION_MAX + SECOND, "out for {out:?}");
        }
    }
}

fn address(number: usize) -> SocketAddr {
    let port = u16::try_from(number + 1).unwrap();
    SocketAddr::from(([10, 0, 0, 1], port))
}

#[test]
fn refusals_of_the_working_sensor_bring_no_dead_one_back() {
    let of_working = [Refused, Prohibited].map(Evidence::Failed);
    // From a refusal with each report to one a minute.
    for (evidence, seconds) in of_working.into_iter().zip([[1, 4], [7, 60]]) {
        for period in seconds {
            let mut model = Model::of_two(Host::Dead, Host::Socket);
            model.run(KERNEL_TELLS * SECOND);
            for _ in 0..20 * 60 / period {
                model.take(address(1), Some(evidence));
                model.run(SECOND * period);
            }
            let share = model.share(0);
            assert!(share < 10, "{share} % with a refusal in {period} s");
            assert_eq!(model.share(1), 100);
        }
    }
}

#[test]
fn a_sensor_that_refuses_is_used_for_seconds_after_a_refusal_of_the_other() {
    let mut model = Model::of_two(Host::Refuses, Host::Socket);
    for _ in 0..20 {
        model.run(SECOND * 60);
        model.take(address(1), Some(Evidence::Failed(Refused)));
    }
    let share = model.share(0);
    assert!(share < 20, "{share} %");
}

#[test]
fn a_sensor_that_comes_and_goes_in_the_list_makes_no_other_flap() {
    for host in [Host::Refuses, Host::Dead, Host::Socket] {
        let mut changes = 0;
        for period in [1, 2, 3, 5] {
            // The bound is asserted at every change.
            let mut model = Model::of_two(host, Host::Socket);
            for _ in 0..600 / period {
                model.run(SECOND * period);
                model.come_or_go(1);
            }
            changes += model.total;
        }
        let is_failing = !matches!(host, Host::Socket);
        assert_eq!(changes > 0, is_failing, "{host:?}");
    }
}

#[test]
fn sensors_that_all_fail_are_all_used_and_do_not_flap() {
    for host in [Host::Refuses, Host::Dead] {
        let mut model = Model::new([host; HOSTS]);
        model.run(SECOND * 10);
        let changes = model.total;
        for _ in 0..300 {
            model.run(SECOND);
            assert_eq!(ejected(&model.ejections), [], "{host:?}");
        }
        assert_eq!(model.total, changes, "{host:?}");
    }
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
                What::ComesOrGoes => model.come_or_go(which),
                What::Becomes(host) => model.hosts[which] = host,
                What::Says(evidence) => model.take(address(which), Some(evidence)),
                What::Nothing => {}
            }
        }
        // All is well at last, and soon all are used.
        model.listed = [true; HOSTS];
        model.update();
        model.hosts = [Host::Sniffer, Host::Socket, Host::Silent];
        model.run(EJECTION_MAX + SECOND * 2);
        prop_assert_eq!(ejected(&model.ejections), []);
    }

    /// The kernel says that the first one is dead, which nobody can forge or hide. Whatever is
    /// forged against those that work, it is out of use for nine tenths of the time.
    #[test]
    fn nothing_forged_keeps_a_dead_sensor_in_use(
        is_of_two in any::<bool>(),
        steps in prop::collection::vec((0_u64..3000, 1..HOSTS, any_forged()), 0..300),
    ) {
        let mut model = if is_of_two {
            Model::of_two(Host::Dead, Host::Socket)
        } else {
            Model::new([Host::Dead, Host::Socket, Host::Sniffer])
        };
        for (wait, which, evidence) in steps {
            model.run(Duration::from_millis(wait));
            model.take(address(which), Some(evidence));
            // It takes the kernel four seconds to learn it, and as long again where those that work
            // had been ejected before.
            let allowed = 4 * KERNEL_TELLS * 3 + model.quarters / 10;
            prop_assert!(model.used[0] <= allowed, "{} of {}", model.used[0], model.quarters);
        }
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
