//! Every error at every place, with a scripted kernel.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::report::SensorReport;

#[path = "delivery_run_tests.rs"]
mod runs;

/// The scripted result of one `sendmmsg`.
#[derive(Debug, Clone)]
enum SendResult {
    /// It sends this many datagrams, or all if there are fewer.
    Sent(usize),
    /// It fails, with these entries in the error queue.
    Failed(Errno, Vec<QueuedError>),
}

#[derive(Default)]
struct Script {
    answers: VecDeque<SendResult>,
    queue: VecDeque<QueuedError>,
    path_mtu: Option<Mtu>,
    length: usize,
    /// The first datagram of each try.
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
            Some(SendResult::Sent(count)) => Ok(count.clamp(1, rest)),
            Some(SendResult::Failed(errno, entries)) => {
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

/// The router that sends the ICMP errors.
const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254));

/// The usual ICMP error of an error number.
fn answer(errno: Errno, sensor: u16) -> QueuedError {
    let icmp_error = match errno {
        Errno::ECONNREFUSED => IcmpError::PortUnreachable,
        Errno::EHOSTUNREACH | Errno::ENETUNREACH => IcmpError::Unreachable { by: Some(ROUTER) },
        Errno::EMSGSIZE => IcmpError::TooLong,
        _ => IcmpError::Other,
    };
    queued(icmp_error, sensor)
}

fn queued(icmp_error: IcmpError, sensor: u16) -> QueuedError {
    QueuedError {
        icmp_error: Some(icmp_error),
        destination: Some(address(sensor)),
    }
}

fn fail(errno: Errno) -> SendResult {
    SendResult::Failed(errno, Vec::new())
}

/// Two sensors, and a run of datagrams for them.
struct Case {
    table: SensorTable,
    destinations: Vec<Destination>,
    outcomes: Vec<Outcome>,
    report: Report,
    run: Vec<Entry>,
    script: Script,
    refused_runs: Vec<SocketAddr>,
    sent: SentMessages,
    done: usize,
}

impl Case {
    /// Delivers messages of one datagram of 1,400 bytes to these sensors once.
    fn deliver(sensors: &[u16], script: Script) -> Self {
        let messages: Vec<_> = sensors.iter().map(|sensor| (*sensor, 1)).collect();
        Self::deliver_runs(&messages, script)
    }

    /// Delivers messages to these sensors with so many datagrams of 1,400 bytes once.
    fn deliver_runs(messages: &[(u16, usize)], script: Script) -> Self {
        let table = (0..2).map(|n| Sensor::new(address(n), Mtu::ETHERNET));
        let datagrams: usize = messages.iter().map(|(_, count)| count).sum();
        let group: Vec<u32> = (0..).take(datagrams).collect();
        let mut places = 0;
        let mut case = Self {
            table: SensorTable::new(table.collect()),
            destinations: vec![Destination::UNTRIED; 2],
            outcomes: vec![Outcome::Pending; datagrams],
            report: Report::default(),
            run: messages
                .iter()
                .map(|&(sensor, count)| {
                    let place = places;
                    places += count;
                    Entry {
                        place,
                        count,
                        sensor: SensorIndex(sensor),
                        length: LENGTH,
                        trailers: 7,
                    }
                })
                .collect(),
            script: Script {
                length: messages.len(),
                ..script
            },
            refused_runs: Vec::new(),
            sent: SentMessages::default(),
            done: 0,
        };
        for destination in &mut case.destinations {
            destination.takes_runs = true;
        }
        let mut delivery = Delivery {
            table: &case.table,
            group: &group,
            destinations: &mut case.destinations,
            outcomes: &mut case.outcomes,
            report: &mut case.report,
            wait_left: WAIT_MAX,
            sent: SentMessages::default(),
            refused_runs: &mut case.refused_runs,
        };
        case.done = delivery.deliver(&mut case.script, &case.run);
        case.sent = delivery.sent;
        case
    }

    fn script(sensors: &[u16], answers: impl IntoIterator<Item = SendResult>) -> Self {
        let answers = answers.into_iter().collect();
        Self::deliver(
            sensors,
            Script {
                answers,
                ..Script::default()
            },
        )
    }

    fn counts(&self, sensor: u16) -> (u64, u64) {
        let mut all = self.report.sensors.iter();
        all.find(|entry| entry.sensor == address(sensor))
            .map_or((0, 0), |entry| (entry.unreachable, entry.port_unreachable))
    }
}

const SENT: Outcome = Outcome::Sent;
const UNREACHABLE: Outcome = Outcome::Dropped(DropReason::Unreachable);
const QUEUE_FULL: Outcome = Outcome::Dropped(DropReason::QueueFull);
const PATH_MTU: Outcome = Outcome::Dropped(DropReason::PathMtu);
const SEND_ERROR: Outcome = Outcome::Dropped(DropReason::SendError);
const PENDING: Outcome = Outcome::Pending;

#[test]
fn a_partial_send_continues_with_the_next_datagram() {
    let case = Case::script(&[0; 5], [SendResult::Sent(2), SendResult::Sent(1)]);
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
        let case = Case::script(
            &[0; 3],
            [SendResult::Sent(1), SendResult::Failed(errno, entries)],
        );
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
    let case = Case::script(&[0; 3], [SendResult::Failed(Errno::ECONNREFUSED, entries)]);
    assert_eq!((case.counts(0), case.counts(1)), ((1, 0), (0, 2)));
    assert_eq!(
        case.report.sensors.len(),
        2,
        "a sensor outside the table has no entry"
    );
}

/// The error number is the same in both.
#[test]
fn a_firewalls_answer_is_not_an_unreachable_sensor() {
    let errno = Errno::EHOSTUNREACH;
    let entries = vec![
        queued(IcmpError::Prohibited { by: ROUTER }, 0),
        queued(IcmpError::RefusedByHost, 1),
    ];
    let case = Case::script(&[0; 3], [SendResult::Failed(errno, entries)]);
    assert_eq!(case.outcomes, [SENT; 3]);
    let expected = [
        SensorReport {
            prohibited: 1,
            prohibited_by: Some(ROUTER),
            ..SensorReport::new(address(0))
        },
        SensorReport {
            refused_by_host: 1,
            ..SensorReport::new(address(1))
        },
    ];
    assert_eq!(case.report.sensors, expected);
}

#[test]
fn a_sniffing_sensor_that_refuses_every_datagram_loses_none() {
    let refusal = || SendResult::Failed(Errno::ECONNREFUSED, vec![answer(Errno::ECONNREFUSED, 0)]);
    let answers = (0..20).flat_map(|_| [SendResult::Sent(1), refusal()]);
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
    assert_eq!(case.counts(0), (2, 0));
}

#[test]
fn an_unreachable_sensor_does_not_affect_the_other() {
    let answers = [
        fail(Errno::EHOSTUNREACH),
        fail(Errno::EHOSTUNREACH),
        SendResult::Sent(2),
    ];
    let case = Case::script(&[0, 1, 1], answers);
    assert_eq!(case.outcomes, [UNREACHABLE, SENT, SENT]);
    assert!(!case.destinations[1].has_failures());
    assert_eq!(case.destinations[1].refuses(LENGTH), None);
}

#[test]
fn a_batch_waits_for_full_queues_only_once() {
    for (errno, cause) in [
        (Errno::EAGAIN, Cause::BufferFull),
        (Errno::ENOBUFS, Cause::QueueFull),
    ] {
        let case = Case::script(&[0; 3], (0..3).map(|_| fail(errno)));
        assert_eq!(case.outcomes, [SENT; 3], "there was room in time");
        assert_eq!(case.script.waits, [cause; 3]);

        // Four waits of a millisecond, then the first and the second datagram are dropped at once.
        let case = Case::script(&[0; 3], (0..6).map(|_| fail(errno)));
        assert_eq!(case.outcomes, [QUEUE_FULL, QUEUE_FULL, SENT]);
        assert_eq!(case.script.waits, [cause; 4]);
    }
}

#[test]
fn a_smaller_path_mtu_is_read_and_only_longer_datagrams_are_dropped() {
    let script = Script {
        answers: [fail(Errno::EMSGSIZE)].into(),
        path_mtu: Mtu::new(1400),
        ..Script::default()
    };
    let case = Case::deliver(&[1, 1, 0], script);
    assert_eq!(case.outcomes, [PATH_MTU, PENDING, PENDING]);
    assert_eq!(case.done, 1, "the rest must be checked again");
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
fn a_path_mtu_from_the_network_is_read_before_a_datagram_is_lost() {
    let entries = vec![answer(Errno::EMSGSIZE, 1)];
    let script = Script {
        answers: [SendResult::Failed(Errno::EMSGSIZE, entries)].into(),
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
fn a_path_that_refuses_its_own_mtu_gets_only_shorter_datagrams() {
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
fn a_firewalls_refusal_is_a_send_error_and_its_number_is_kept() {
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
        SendResult::Sent(1),
        fail(Errno::EPERM),
        SendResult::Sent(1),
        fail(Errno::EPERM),
        fail(Errno::EPERM),
    ];
    let case = Case::script(&[0; 7], limited);
    let expected = [
        SEND_ERROR, SENT, SEND_ERROR, SENT, SEND_ERROR, SEND_ERROR, PENDING,
    ];
    assert_eq!(case.outcomes, expected);

    // A success for the other sensor does not count for this one.
    let other = [fail(Errno::EPERM), SendResult::Sent(1), fail(Errno::EPERM)];
    let case = Case::script(&[0, 1, 0, 0], other);
    assert_eq!(case.outcomes, [SEND_ERROR, SENT, SEND_ERROR, PENDING]);
}

#[test]
fn an_interrupted_call_is_repeated() {
    let case = Case::script(&[0; 2], [fail(Errno::EINTR), fail(Errno::EINTR)]);
    assert_eq!(case.outcomes, [SENT; 2]);
    assert!(case.report.is_empty());
}

#[test]
fn a_sensor_outside_the_table_does_not_affect_others() {
    let case = Case::script(&[9, 0], [fail(Errno::EINVAL), fail(Errno::EINVAL)]);
    assert_eq!(case.outcomes, [SEND_ERROR, SENT]);
    let case = Case::script(&[9, 0], [fail(Errno::EMSGSIZE), fail(Errno::EMSGSIZE)]);
    assert_eq!(case.outcomes, [PATH_MTU, SENT]);
}

fn any_answer() -> impl Strategy<Value = SendResult> {
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
        (0_usize..9).prop_map(SendResult::Sent),
        (errno, prop::collection::vec(entry, 0..3))
            .prop_map(|(errno, entries)| SendResult::Failed(errno, entries)),
    ]
}

proptest! {
    #[test]
    fn for_any_answers_each_datagram_is_tried_in_order_and_gets_one_outcome(
        answers in prop::collection::vec(any_answer(), 0..60),
        messages in prop::collection::vec((0_u16..3, 1_usize..4), 0..20),
        mtu in prop::option::of(576_u32..2000),
    ) {
        let script = Script {
            answers: answers.into(),
            path_mtu: mtu.and_then(Mtu::new),
            ..Script::default()
        };
        let case = Case::deliver_runs(&messages, script);
        prop_assert!(case.script.tries.is_sorted());
        let first_left = case.run.get(case.done).map_or(case.outcomes.len(), |entry| entry.place);
        let (done, left) = case.outcomes.split_at(first_left);
        prop_assert!(done.iter().all(|outcome| *outcome != PENDING));
        prop_assert!(left.iter().all(|outcome| *outcome == PENDING));
        // If messages are left, one of them is refused, or is a run that its sensor does not take.
        let is_refused = |entry: &Entry| {
            let destination = case.destinations.get(usize::from(entry.sensor.0));
            let takes_runs = destination.is_some_and(|destination| destination.takes_runs);
            destination.is_some_and(|destination| destination.refuses(entry.length).is_some())
                || entry.count > 1 && !takes_runs
        };
        prop_assert!(left.is_empty() || case.run[case.done..].iter().any(is_refused));
        prop_assert!(case.script.waits.len() <= WAIT_MAX.as_millis() as usize);
    }
}
