//! Errors of runs, with the scripted kernel.

use super::*;

#[test]
fn the_datagrams_of_a_run_have_one_outcome() {
    let case = Case::deliver_runs(
        &[(0, 3), (1, 1), (0, 2)],
        Script {
            answers: [SendResult::Sent(1), fail(Errno::EPERM)].into(),
            ..Script::default()
        },
    );
    assert_eq!(case.outcomes, [SENT, SENT, SENT, SEND_ERROR, SENT, SENT]);
    let expected = SentMessages {
        messages: 2,
        trailer_bytes: 14,
    };
    assert_eq!(case.sent, expected);
}

#[test]
fn a_refused_run_is_left_to_be_sent_one_by_one() {
    for errno in [Errno::EINVAL, Errno::EIO] {
        let script = Script {
            answers: [SendResult::Sent(1), fail(errno)].into(),
            path_mtu: Some(Mtu::ETHERNET),
            ..Script::default()
        };
        let case = Case::deliver_runs(&[(0, 2), (1, 2), (0, 2)], script);
        assert_eq!(
            case.outcomes,
            [SENT, SENT, PENDING, PENDING, PENDING, PENDING]
        );
        assert_eq!(case.done, 1, "the caller makes the others again");
        assert!(!case.destinations[1].takes_runs && case.destinations[0].takes_runs);
        assert_eq!(case.refused_runs, [address(1)], "{errno}");
        let expected = SensorReport {
            runs_refused: Some(errno),
            ..SensorReport::new(address(1))
        };
        assert_eq!(case.report.sensors, [expected]);
    }
}

#[test]
fn a_run_that_is_too_long_for_a_narrower_path_is_no_reason_against_runs() {
    // The kernel's error for it is EINVAL, since 6.14 EMSGSIZE.
    for errno in [Errno::EINVAL, Errno::EMSGSIZE] {
        let script = Script {
            answers: [fail(errno)].into(),
            path_mtu: Mtu::new(1400),
            ..Script::default()
        };
        let case = Case::deliver_runs(&[(0, 2)], script);
        assert_eq!(
            (case.done, case.outcomes.as_slice()),
            (0, &[PENDING; 2][..])
        );
        assert_eq!(
            case.destinations[0].refuses(LENGTH),
            Some(DropReason::PathMtu)
        );
        assert_eq!(case.refused_runs, [], "{errno}");
    }
}

#[test]
fn a_long_run_that_an_earlier_datagrams_error_stops_is_no_reason_against_runs() {
    let too_long = || vec![answer(Errno::EMSGSIZE, 1)];
    // Only EMSGSIZE can be about an earlier datagram, and only with an ICMP error in the queue.
    for (errno, entries, is_refusal) in [
        (Errno::EMSGSIZE, too_long(), false),
        (Errno::EMSGSIZE, Vec::new(), true),
        (Errno::EINVAL, too_long(), true),
        (Errno::EIO, too_long(), true),
    ] {
        let script = Script {
            answers: [SendResult::Failed(errno, entries)].into(),
            path_mtu: Some(Mtu::ETHERNET),
            ..Script::default()
        };
        let case = Case::deliver_runs(&[(0, 2)], script);
        assert_eq!(case.outcomes, [PENDING; 2], "{errno}");
        assert!(!case.destinations[0].takes_runs, "{errno}");
        assert_eq!(!case.refused_runs.is_empty(), is_refusal, "{errno}");
    }
}
