//! Every error at every place, by a kernel that answers from a script.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::report::SensorReport;

/// What the scripted kernel says to one `sendmmsg`.
#[derive(Debug, Clone)]
enum Answer {
    /// It takes so many, as far as there are that many.
    Take(usize),
    /// It fails, with these entries in the error queue.
    Fail(Errno, Vec<QueuedError>),
}

#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    queue: VecDeque<QueuedError>,
    path_mtu: Option<Mtu>,
    length: usize,
    /// What was asked: the first datagram of each try.
    tries: Vec<usize>,
    waits: Vec<Cause>,
    measured: Vec<SocketAddr>,
}

impl Kernel for Script {
    fn send(&mut self, first: usize) -> Result<usize, Errno> {
        self.tries.push(first);
        let rest = self.length - first;
        match self.answers.pop_front() {
            None => Ok(rest),
            Some(Answer::Take(count)) => Ok(count.clamp(1, rest)),
            Some(Answer::Fail(errno, entries)) => {
                self.queue.extend(entries);
                Err(errno)
            }
        }
    }

    fn next_error(&mut self) -> Option<QueuedError> {
        self.queue.pop_front()
    }

    fn wait(&mut self, cause: Cause, _at_most: Duration) -> Duration {
        self.waits.push(cause);
        Duration::from_millis(1)
    }

    fn path_mtu(&mut self, sensor: SocketAddr) -> Option<Mtu> {
        self.measured.push(sensor);
        self.path_mtu
    }
}

const LENGTH: u32 = 1400;

fn address(sensor: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4000 + sensor))
}

/// A router that speaks of unreachable and prohibited sensors.
const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254));

/// What ICMP messages become these numbers, usually.
fn answer(errno: Errno, sensor: u16) -> QueuedError {
    let verdict = match errno {
        Errno::ECONNREFUSED => Verdict::PortUnreachable,
        Errno::EHOSTUNREACH | Errno::ENETUNREACH => Verdict::Unreachable { by: Some(ROUTER) },
        Errno::EMSGSIZE => Verdict::TooLong,
        _ => Verdict::Other,
    };
    about(verdict, sensor)
}

fn about(verdict: Verdict, sensor: u16) -> QueuedError {
    QueuedError {
        verdict: Some(verdict),
        destination: Some(address(sensor)),
    }
}

fn fail(errno: Errno) -> Answer {
    Answer::Fail(errno, Vec::new())
}

/// Two sensors, and a run of datagrams for them.
struct Case {
    table: SensorTable,
    destinations: Vec<Destination>,
    outcomes: Vec<Outcome>,
    report: Report,
    run: Vec<Entry>,
    script: Script,
    done: usize,
}

impl Case {
    /// Delivers datagrams of 1,400 bytes to these sensors, as `transmitter` does: what is left
    /// of a run is looked at again.
    fn deliver(sensors: &[u16], script: Script) -> Self {
        let table = (0..2).map(|n| Sensor::new(address(n), Mtu::ETHERNET));
        let run = sensors.iter().enumerate();
        let mut case = Self {
            table: SensorTable::new(table.collect()),
            destinations: vec![Destination::UNTRIED; 2],
            outcomes: vec![Outcome::Pending; sensors.len()],
            report: Report::default(),
            run: run
                .map(|(number, sensor)| Entry {
                    number,
                    place: number,
                    sensor: SensorIndex(*sensor),
                    length: LENGTH,
                })
                .collect(),
            script: Script {
                length: sensors.len(),
                ..script
            },
            done: 0,
        };
        let mut delivery = Delivery {
            table: &case.table,
            destinations: &mut case.destinations,
            outcomes: &mut case.outcomes,
            report: &mut case.report,
            patience: PATIENCE,
        };
        case.done = delivery.deliver(&mut case.script, &case.run);
        case
    }

    fn script(sensors: &[u16], answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers = answers.into_iter().collect();
        Self::deliver(
            sensors,
            Script {
                answers,
                ..Script::default()
            },
        )
    }

    fn news(&self, sensor: u16) -> (u64, u64) {
        let mut all = self.report.sensors.iter();
        all.find(|news| news.sensor == address(sensor))
            .map_or((0, 0), |news| (news.unreachable, news.port_unreachable))
    }
}

const SENT: Outcome = Outcome::Sent;
const UNREACHABLE: Outcome = Outcome::Dropped(DropReason::Unreachable);
const QUEUE_FULL: Outcome = Outcome::Dropped(DropReason::QueueFull);
const PATH_MTU: Outcome = Outcome::Dropped(DropReason::PathMtu);
const SEND_ERROR: Outcome = Outcome::Dropped(DropReason::SendError);
const PENDING: Outcome = Outcome::Pending;

#[test]
fn a_partial_send_goes_on_from_there() {
    let case = Case::script(&[0; 5], [Answer::Take(2), Answer::Take(1)]);
    assert_eq!(case.script.tries, [0, 2, 3]);
    assert_eq!(case.outcomes, [SENT; 5]);
}

#[test]
fn an_answer_about_an_earlier_datagram_drops_none() {
    for errno in [
        Errno::ECONNREFUSED,
        Errno::EHOSTUNREACH,
        Errno::EMSGSIZE,
        Errno::EPROTO,
    ] {
        let entries = vec![answer(errno, 1)];
        let case = Case::script(&[0; 3], [Answer::Take(1), Answer::Fail(errno, entries)]);
        assert_eq!(case.outcomes, [SENT; 3], "{errno}");
        assert_eq!(case.script.tries, [0, 1, 1], "{errno}");
    }
}

#[test]
fn answers_count_for_the_sensor_that_they_are_about() {
    let entries = vec![
        answer(Errno::ECONNREFUSED, 1),
        answer(Errno::EHOSTUNREACH, 0),
        answer(Errno::ECONNREFUSED, 1),
        answer(Errno::ECONNREFUSED, 77),
    ];
    let case = Case::script(&[0; 3], [Answer::Fail(Errno::ECONNREFUSED, entries)]);
    assert_eq!((case.news(0), case.news(1)), ((1, 0), (0, 2)));
    assert_eq!(
        case.report.sensors.len(),
        2,
        "a sensor of no table has no news"
    );
}

/// The error number is the same in both.
#[test]
fn a_firewalls_answer_is_not_an_unreachable_sensor() {
    let errno = Errno::EHOSTUNREACH;
    let entries = vec![
        about(Verdict::Prohibited { by: ROUTER }, 0),
        about(Verdict::RefusedByHost, 1),
    ];
    let case = Case::script(&[0; 3], [Answer::Fail(errno, entries)]);
    assert_eq!(case.outcomes, [SENT; 3]);
    let expected = [
        SensorReport {
            prohibited: 1,
            prohibited_by: Some(ROUTER),
            ..SensorReport::about(address(0))
        },
        SensorReport {
            refused_by_host: 1,
            ..SensorReport::about(address(1))
        },
    ];
    assert_eq!(case.report.sensors, expected);
}

#[test]
fn a_sniffing_sensor_that_refuses_every_datagram_loses_none() {
    let refusal = || Answer::Fail(Errno::ECONNREFUSED, vec![answer(Errno::ECONNREFUSED, 0)]);
    let answers = (0..20).flat_map(|_| [Answer::Take(1), refusal()]);
    let case = Case::script(&[0; 20], answers);
    assert_eq!(case.outcomes, [SENT; 20]);
}

#[test]
fn a_sensor_without_a_route_is_given_up_after_two_datagrams() {
    let answers = (0..4).map(|_| fail(Errno::ENETUNREACH));
    let case = Case::script(&[0, 0, 0, 0], answers);
    assert_eq!(case.outcomes, [UNREACHABLE, UNREACHABLE, PENDING, PENDING]);
    assert_eq!(case.done, 2, "the others are not tried");
    assert_eq!(case.script.tries, [0, 0, 1, 1]);
    assert_eq!(
        case.destinations[0].refuses(1),
        Some(DropReason::Unreachable)
    );
    assert_eq!(case.news(0), (2, 0));
}

#[test]
fn one_unreachable_sensor_does_not_harm_the_other() {
    let answers = [
        fail(Errno::EHOSTUNREACH),
        fail(Errno::EHOSTUNREACH),
        Answer::Take(2),
    ];
    let case = Case::script(&[0, 1, 1], answers);
    assert_eq!(case.outcomes, [UNREACHABLE, SENT, SENT]);
    assert_eq!(case.destinations[1], Destination::UNTRIED);
}

#[test]
fn full_queues_are_waited_for_once_in_a_batch() {
    for (errno, cause) in [
        (Errno::EAGAIN, Cause::BufferFull),
        (Errno::ENOBUFS, Cause::QueueFull),
    ] {
        let case = Case::script(&[0; 3], (0..3).map(|_| fail(errno)));
        assert_eq!(case.outcomes, [SENT; 3], "room came in time");
        assert_eq!(case.script.waits, [cause; 3]);

        // Four waits of a millisecond, then the first and the second datagram are dropped at once.
        let case = Case::script(&[0; 3], (0..6).map(|_| fail(errno)));
        assert_eq!(case.outcomes, [QUEUE_FULL, QUEUE_FULL, SENT]);
        assert_eq!(case.script.waits, [cause; 4]);
    }
}

#[test]
fn a_narrower_path_is_learned_and_only_what_is_too_long_is_dropped() {
    let script = Script {
        answers: [fail(Errno::EMSGSIZE)].into(),
        path_mtu: Mtu::new(1400),
        ..Script::default()
    };
    let case = Case::deliver(&[1, 1, 0], script);
    assert_eq!(case.outcomes, [PATH_MTU, PENDING, PENDING]);
    assert_eq!(case.done, 1, "what is left is to be looked at again");
    assert_eq!(case.script.measured, [address(1)]);
    assert_eq!(case.table.sensors()[1].path_mtu().get(), 1400);
    assert_eq!(case.table.sensors()[0].path_mtu(), Mtu::ETHERNET);
    let (longest, longer) = (1400 - 28, 1400 - 27);
    assert_eq!(case.destinations[1].refuses(longest), None);
    assert_eq!(
        case.destinations[1].refuses(longer),
        Some(DropReason::PathMtu)
    );
    assert_eq!(case.report.sensors[0].path_mtu, Mtu::new(1400));
}

#[test]
fn a_path_mtu_from_the_network_is_learned_before_a_datagram_is_lost() {
    let entries = vec![answer(Errno::EMSGSIZE, 1)];
    let script = Script {
        answers: [Answer::Fail(Errno::EMSGSIZE, entries)].into(),
        path_mtu: Mtu::new(1450),
        ..Script::default()
    };
    let case = Case::deliver(&[0, 0], script);
    assert_eq!(case.outcomes, [SENT; 2]);
    assert_eq!(case.script.measured, [address(1), address(0)]);
    assert_eq!(case.table.sensors()[1].path_mtu().get(), 1450);
}

#[test]
fn a_path_mtu_is_never_raised() {
    let script = Script {
        answers: [fail(Errno::EMSGSIZE)].into(),
        path_mtu: Mtu::new(9000),
        ..Script::default()
    };
    let case = Case::deliver(&[0], script);
    assert_eq!(case.outcomes, [SENT]);
    assert_eq!(case.table.sensors()[0].path_mtu(), Mtu::ETHERNET);
    assert!(case.report.is_empty());
}

#[test]
fn a_path_that_takes_less_than_it_says_is_believed_by_what_it_does() {
    for path_mtu in [None, Mtu::new(1500)] {
        let script = Script {
            answers: (0..2).map(|_| fail(Errno::EMSGSIZE)).collect(),
            path_mtu,
            ..Script::default()
        };
        let case = Case::deliver(&[0, 0], script);
        assert_eq!(case.outcomes, [PATH_MTU, PENDING]);
        assert_eq!(
            case.destinations[0].refuses(LENGTH),
            Some(DropReason::PathMtu)
        );
        assert_eq!(case.destinations[0].refuses(LENGTH - 1), None);
    }
}

#[test]
fn a_firewalls_verdict_is_a_send_error_with_its_number_kept() {
    let case = Case::script(&[0, 0, 0], [fail(Errno::EPERM), fail(Errno::EPERM)]);
    assert_eq!(case.outcomes, [SEND_ERROR, SEND_ERROR, PENDING]);
    assert_eq!(case.script.tries, [0, 1], "no retry");
    assert_eq!(case.report.refusals, 2);
    assert_eq!(case.report.last_refusal, Some(Errno::EPERM));
}

/// As a firewall's rule with a limit does.
#[test]
fn a_success_in_between_keeps_a_sensor() {
    let limited = [
        fail(Errno::EPERM),
        Answer::Take(1),
        fail(Errno::EPERM),
        Answer::Take(1),
        fail(Errno::EPERM),
        fail(Errno::EPERM),
    ];
    let case = Case::script(&[0; 7], limited);
    let expected = [
        SEND_ERROR, SENT, SEND_ERROR, SENT, SEND_ERROR, SEND_ERROR, PENDING,
    ];
    assert_eq!(case.outcomes, expected);

    // What the other sensor was sent says nothing of this one.
    let other = [fail(Errno::EPERM), Answer::Take(1), fail(Errno::EPERM)];
    let case = Case::script(&[0, 1, 0, 0], other);
    assert_eq!(case.outcomes, [SEND_ERROR, SENT, SEND_ERROR, PENDING]);
}

#[test]
fn an_interruption_is_none() {
    let case = Case::script(&[0; 2], [fail(Errno::EINTR), fail(Errno::EINTR)]);
    assert_eq!(case.outcomes, [SENT; 2]);
    assert!(case.report.is_empty());
}

#[test]
fn a_sensor_of_no_table_harms_nothing() {
    let case = Case::script(&[9, 0], [fail(Errno::EINVAL), fail(Errno::EINVAL)]);
    assert_eq!(case.outcomes, [SEND_ERROR, SENT]);
    let case = Case::script(&[9, 0], [fail(Errno::EMSGSIZE), fail(Errno::EMSGSIZE)]);
    assert_eq!(case.outcomes, [PATH_MTU, SENT]);
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let errno = prop::sample::select(vec![
        Errno::EINTR,
        Errno::EAGAIN,
        Errno::ENOBUFS,
        Errno::EMSGSIZE,
        Errno::EHOSTUNREACH,
        Errno::ENETUNREACH,
        Errno::ECONNREFUSED,
        Errno::EPERM,
        Errno::EINVAL,
        Errno::EIO,
    ]);
    let entry = (errno.clone(), 0_u16..4).prop_map(|(errno, sensor)| answer(errno, sensor));
    prop_oneof![
        (0_usize..9).prop_map(Answer::Take),
        (errno, prop::collection::vec(entry, 0..3))
            .prop_map(|(errno, entries)| Answer::Fail(errno, entries)),
    ]
}

proptest! {
    #[test]
    fn whatever_the_kernel_says_each_datagram_is_tried_in_order_and_gets_one_outcome(
        answers in prop::collection::vec(any_answer(), 0..60),
        sensors in prop::collection::vec(0_u16..3, 0..20),
        mtu in prop::option::of(576_u32..2000),
    ) {
        let script = Script {
            answers: answers.into(),
            path_mtu: mtu.and_then(Mtu::new),
            ..Script::default()
        };
        let case = Case::deliver(&sensors, script);
        prop_assert!(case.script.tries.is_sorted());
        let (done, left) = case.outcomes.split_at(case.done);
        prop_assert!(done.iter().all(|outcome| *outcome != PENDING));
        prop_assert!(left.iter().all(|outcome| *outcome == PENDING));
        // Only what is known to fail is left.
        let known_to_fail = |entry: &Entry| {
            let destination = case.destinations.get(usize::from(entry.sensor.0));
            destination.is_some_and(|destination| destination.refuses(entry.length).is_some())
        };
        prop_assert!(left.is_empty() || case.run[case.done..].iter().any(known_to_fail));
        prop_assert!(case.script.waits.len() <= PATIENCE.as_millis() as usize);
    }
}
