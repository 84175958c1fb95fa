//! A model of hosts that answer, fail and refuse, of an attacker who forges messages, and of a list that
//! changes. It checks what must always be true.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// An ejection and a return for each of the five steps of the backoff, and one more pair for an early
/// return.
const CHANGES_A_MINUTE_MAX: usize = 12;

/// How a sensor's host and the network behave.
#[derive(Debug, Clone, Copy)]
enum Host {
    /// A sniffer: the host answers each probe, and reports a closed port.
    Sniffer,
    /// A socket: the host answers each probe, and reports nothing about the port.
    Socket,
    /// The host answers each probe, and its port refuses.
    Refuses,
    /// The host answers each probe, and a firewall on the path rejects the port.
    Prohibited,
    /// The host drops every probe.
    Silent,
    /// This machine's kernel cannot reach it.
    Dead,
    /// A router cannot reach it.
    DeadBehindRouter,
}

impl Host {
    /// What podspan observes after it sends a copy.
    const fn after_a_copy(self) -> Option<Observation> {
        match self {
            Self::Sniffer => Some(Observation::Arrived),
            Self::Refuses => Some(Observation::Failed(Refused)),
            Self::Prohibited => Some(Observation::MayFail(Failure::Prohibited)),
            Self::Dead => Some(Observation::Failed(Unreachable)),
            Self::DeadBehindRouter => Some(Observation::MayFail(Unreachable)),
            Self::Socket | Self::Silent => None,
        }
    }

    /// What podspan observes after it sends a probe.
    const fn after_a_probe(self) -> Option<Observation> {
        match self {
            Self::Sniffer | Self::Socket | Self::Refuses | Self::Prohibited => {
                Some(Observation::Answered)
            }
            Self::Dead | Self::DeadBehindRouter => self.after_a_copy(),
            Self::Silent => None,
        }
    }
}

const HOSTS: usize = 3;

/// One step of the model: a wait, and then an event of one sensor.
#[derive(Debug, Clone)]
struct Step {
    wait: Duration,
    number: usize,
    event: Event,
}

#[derive(Debug, Clone)]
enum Event {
    /// The sensor is removed from the list, or added again.
    ListChanges,
    /// The host behaves differently from now on.
    Becomes(Host),
    /// An observation without a cause: forged, or late.
    Observed(Observation),
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

fn any_observation() -> impl Strategy<Value = Observation> {
    prop_oneof![
        1 => Just(Observation::Failed(Unreachable)),
        5 => any_forgeable(),
    ]
}

/// An observation that anybody can forge.
fn any_forgeable() -> impl Strategy<Value = Observation> {
    prop::sample::select(vec![
        Observation::Failed(Refused),
        Observation::Failed(Prohibited),
        Observation::MayFail(Unreachable),
        Observation::MayFail(Refused),
        Observation::MayFail(Prohibited),
        Observation::Answered,
        Observation::Arrived,
    ])
}

fn any_step() -> impl Strategy<Value = Step> {
    let event = prop_oneof![
        2 => Just(Event::ListChanges),
        1 => any_host().prop_map(Event::Becomes),
        6 => any_observation().prop_map(Event::Observed),
        6 => Just(Event::Nothing),
    ];
    let wait = prop_oneof![3 => 0_u64..300, 2 => 0_u64..3000, 1 => 0_u64..90_000];
    (wait, 0..HOSTS, event).prop_map(|(wait, number, event)| Step {
        wait: Duration::from_millis(wait),
        number,
        event,
    })
}

/// How many seconds pass between two reports of the kernel that a neighbour is silent: it sends three
/// requests, and starts again at the next probe.
const KERNEL_REPORTS_EVERY: u32 = 4;

/// Hosts, and podspan, which reads a report four times a second and probes once a second.
struct Model {
    hosts: [Host; HOSTS],
    /// Which of them are in the list.
    listed: [bool; HOSTS],
    ejections: Ejections,
    now: Instant,
    /// Quarters of a second since the start.
    quarters: u32,
    /// In how many quarters each sensor was used.
    used: [u32; HOSTS],
    /// Since when each sensor is ejected.
    since: [Option<Instant>; HOSTS],
    /// When each sensor was ejected or used again, in the last minute.
    changes: [VecDeque<Instant>; HOSTS],
    /// The number of all changes.
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
        model.update_list();
        model
    }

    /// Without the third sensor.
    fn of_two(first: Host, second: Host) -> Self {
        let mut model = Self::new([first, second, Host::Socket]);
        model.change_list(2);
        model
    }

    fn change_list(&mut self, number: usize) {
        self.listed[number] = !self.listed[number];
        self.update_list();
    }

    fn update_list(&mut self) {
        let listed = (0..HOSTS).filter(|number| self.listed[*number]);
        self.ejections.update_list(listed.map(address), self.now);
        self.check();
    }

    fn run(&mut self, time: Duration) {
        for _ in 0..time.as_millis().div_ceil(250) {
            self.now += Duration::from_millis(250);
            self.quarters += 1;
            if self.quarters.is_multiple_of(4) {
                for sensor in self.ejections.probed().collect::<Vec<_>>() {
                    let host = self.hosts[usize::from(sensor.port()) - 1];
                    self.observe_host(host, sensor, host.after_a_probe());
                }
                self.ejections.tick(self.now);
                self.check();
            }
            for (number, host) in self.hosts.into_iter().enumerate() {
                if self.listed[number] && !self.ejections.is_ejected(address(number)) {
                    self.used[number] += 1;
                    self.observe_host(host, address(number), host.after_a_copy());
                }
            }
        }
    }

    /// Handles an observation of a host. The kernel reports a dead host only now and then.
    fn observe_host(&mut self, host: Host, sensor: SocketAddr, observation: Option<Observation>) {
        let is_due = self.quarters.is_multiple_of(4 * KERNEL_REPORTS_EVERY);
        if !matches!(host, Host::Dead) || is_due {
            self.observe(sensor, observation);
        }
    }

    /// The share of time that a sensor was used, in percent.
    fn share(&self, number: usize) -> u32 {
        self.used[number] * 100 / self.quarters
    }

    fn observe(&mut self, sensor: SocketAddr, observation: Option<Observation>) {
        if let Some(observation) = observation {
            self.ejections.observe(sensor, observation, self.now);
            self.check();
        }
    }

    /// Checks what must always be true.
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
            let ejected_for = since.map_or(Duration::ZERO, |since| self.now - since);
            assert!(
                ejected_for < EJECTION_MAX + SECOND,
                "ejected for {ejected_for:?}"
            );
        }
    }
}

fn address(number: usize) -> SocketAddr {
    let port = u16::try_from(number + 1).unwrap();
    SocketAddr::from(([10, 0, 0, 1], port))
}

#[test]
fn refusals_of_a_working_sensor_do_not_return_a_dead_one() {
    let of_working = [Refused, Prohibited].map(Observation::Failed);
    // From a refusal with each report to one a minute.
    for (observation, seconds) in of_working.into_iter().zip([[1, 4], [7, 60]]) {
        for period in seconds {
            let mut model = Model::of_two(Host::Dead, Host::Socket);
            model.run(KERNEL_REPORTS_EVERY * SECOND);
            for _ in 0..20 * 60 / period {
                model.observe(address(1), Some(observation));
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
        model.observe(address(1), Some(Observation::Failed(Refused)));
    }
    let share = model.share(0);
    assert!(share < 20, "{share} %");
}

#[test]
fn a_sensor_that_leaves_and_joins_the_list_makes_no_other_flap() {
    for host in [Host::Refuses, Host::Dead, Host::Socket] {
        let mut changes = 0;
        for period in [1, 2, 3, 5] {
            // The bound is asserted at every change.
            let mut model = Model::of_two(host, Host::Socket);
            for _ in 0..600 / period {
                model.run(SECOND * period);
                model.change_list(1);
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
    /// The bound is checked for every sensor, also for those whose hosts answer.
    #[test]
    fn no_observations_eject_for_longer_than_the_bound_or_flap(
        hosts in prop::array::uniform3(any_host()),
        steps in prop::collection::vec(any_step(), 0..200),
    ) {
        let mut model = Model::new(hosts);
        for Step { wait, number, event } in steps {
            model.run(wait);
            match event {
                Event::ListChanges => model.change_list(number),
                Event::Becomes(host) => model.hosts[number] = host,
                Event::Observed(observation) => model.observe(address(number), Some(observation)),
                Event::Nothing => {}
            }
        }
        // In the end no sensor fails, and soon all are used.
        model.listed = [true; HOSTS];
        model.update_list();
        model.hosts = [Host::Sniffer, Host::Socket, Host::Silent];
        model.run(EJECTION_MAX + SECOND * 2);
        prop_assert_eq!(ejected(&model.ejections), []);
    }

    /// The kernel reports that the first sensor is dead, which nobody can forge or hide. Whatever is
    /// forged against the others, it is not used for nine tenths of the time.
    #[test]
    fn nothing_forged_keeps_a_dead_sensor_in_use(
        is_of_two in any::<bool>(),
        steps in prop::collection::vec((0_u64..3000, 1..HOSTS, any_forgeable()), 0..300),
    ) {
        let mut model = if is_of_two {
            Model::of_two(Host::Dead, Host::Socket)
        } else {
            Model::new([Host::Dead, Host::Socket, Host::Sniffer])
        };
        for (wait, number, observation) in steps {
            model.run(Duration::from_millis(wait));
            model.observe(address(number), Some(observation));
            // The kernel needs four seconds to detect it, and again as long if the working ones
            // had been ejected before.
            let allowed = 4 * KERNEL_REPORTS_EVERY * 3 + model.quarters / 10;
            prop_assert!(model.used[0] <= allowed, "{} of {}", model.used[0], model.quarters);
        }
    }

    /// An attacker can forge ICMP, but cannot suppress the host's own answers.
    #[test]
    fn nothing_forged_ejects_a_sensor_whose_host_answers(
        steps in prop::collection::vec((0_u64..2000, 0..HOSTS), 0..300),
    ) {
        let mut model = Model::new([Host::Sniffer, Host::Socket, Host::Socket]);
        for (wait, number) in steps {
            model.run(Duration::from_millis(wait));
            model.observe(address(number), Some(Observation::MayFail(Unreachable)));
            model.observe(address(0), Some(Observation::MayFail(Prohibited)));
            prop_assert_eq!(ejected(&model.ejections), []);
        }
    }
}
