//! What the journal logs, in the text form that an operator reads.

use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::*;
use tracing::Level;

use super::*;
use crate::failure::{User, Verb};
use crate::foreign_testing::{any_text, assert_printable};
use crate::remedy::Selected;
use crate::types::FoundSensor;
use settings::Receiver;

/// More than the longest line: the names of 16 sensors with 300 characters each, and their addresses.
const LINE_MAX: usize = 6500;

fn logged(events: impl FnOnce()) -> String {
    static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    /// Only one test uses the log at a time.
    static TURN: Mutex<()> = Mutex::new(());
    struct Log;
    impl std::io::Write for Log {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            LOG.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_target(false)
        .with_max_level(Level::TRACE)
        .with_writer(|| Log)
        .finish();
    tracing::subscriber::with_default(subscriber, events);
    String::from_utf8(std::mem::take(&mut *LOG.lock().unwrap())).unwrap()
}

fn any_user() -> impl Strategy<Value = User> {
    prop_oneof![
        (any_text(), any_text())
            .prop_map(|(namespace, name)| User::ServiceAccount { namespace, name }),
        any_text().prop_map(User::Other),
    ]
}

fn any_failure() -> impl Strategy<Value = Failure> {
    let verb = prop_oneof![Just(Verb::List), Just(Verb::Watch)];
    let forbidden = (verb, prop::option::of(any_user()))
        .prop_map(|(verb, user)| Failure::Forbidden { verb, user });
    let with_text = (any_text(), 0..9).prop_map(|(text, kind)| {
        let (reason, message) = (text.clone(), text);
        match kind {
            0 => Failure::Credentials { reason },
            1 => Failure::NotFound { message },
            2 => Failure::Unsupported { message },
            3 => Failure::Server { code: 500, message },
            4 => Failure::UnknownHost { reason },
            5 => Failure::Unreachable { reason },
            6 => Failure::Certificate { reason },
            7 => Failure::Disconnected { reason },
            _ => Failure::Unexpected { reason },
        }
    });
    let without = prop::sample::select(vec![
        Failure::Unauthorized,
        Failure::Gone,
        Failure::TimedOut {
            waiting_for: "a list",
        },
        Failure::Throttled {
            code: 429,
            after: Some(Duration::from_secs(1)),
        },
    ]);
    prop_oneof![4 => forbidden, 8 => with_text, 1 => without]
}

fn any_target() -> impl Strategy<Value = Target> {
    let optional = || prop::option::of(any_text());
    (
        any_text(),
        optional(),
        any_text(),
        any_text(),
        optional(),
        any_text(),
        any::<bool>(),
    )
        .prop_map(
            |(server, ca, credentials, name, namespace, own_namespace, is_own)| Target {
                server,
                ca,
                credentials,
                selected: if is_own {
                    Selected::OwnPod(name)
                } else {
                    Selected::Sensors(name)
                },
                namespace,
                own_namespace,
            },
        )
}

fn any_remark() -> impl Strategy<Value = Remark> {
    (any_text(), 0..7).prop_map(|(text, kind)| match kind {
        0 => Remark::NotRunning(text),
        1 => Remark::BadPort(text),
        2 => Remark::BadReceiver(text),
        3 => Remark::BadTunnel(text),
        4 => Remark::BadTunnelPort(text),
        5 => Remark::OtherFamily(IpAddr::from([10, 0, 0, 1])),
        _ => Remark::OwnPod,
    })
}

fn any_remarks() -> impl Strategy<Value = BTreeMap<PodName, Remark>> {
    let name = (any_text(), any_text()).prop_map(|(namespace, name)| PodName { namespace, name });
    prop::collection::btree_map(name, any_remark(), 0..3)
}

fn any_list() -> impl Strategy<Value = SensorList> {
    let sensor = any_text().prop_map(|pod| FoundSensor {
        address: SocketAddr::from(([10, 0, 0, 1], 4789)),
        receiver: Receiver::Sniffer,
        has_tunnel: false,
        pod,
        on_this_node: false,
    });
    prop::collection::vec(sensor, 0..NAMED + 2).prop_map(|sensors| SensorList { sensors })
}

/// How many lines a failure has, whatever texts are in it.
fn lines_of(failure: &Failure, target: &Target) -> usize {
    if !matches!(failure, Failure::Forbidden { .. }) || !target.are_sensors() {
        return 1;
    }
    let namespaces = if target.namespace.is_some() { 2 } else { 0 };
    // The line above the YAML, the Role, `---`, and the binding with its subject.
    1 + 8 + 1 + 12 + namespaces
}

proptest! {
    #[test]
    fn foreign_texts_add_no_line_to_the_log(
        failure in any_failure(),
        target in any_target(),
        remarks in any_remarks(),
        list in any_list(),
    ) {
        let lines = lines_of(&failure, &target) + 1 + remarks.len() + 1;
        let log = logged(|| {
            let mut journal = Journal::default();
            journal.failed(failure, &target);
            journal.answered(&target);
            journal.remarks(remarks);
            journal.sensors(&list, &target);
        });
        prop_assert!(log.ends_with('\n'));
        let log: Vec<&str> = log.trim_end_matches('\n').split('\n').collect();
        prop_assert_eq!(log.len(), lines, "{:#?}", log);
        for line in log {
            assert_printable(line);
            prop_assert!(line.chars().count() <= LINE_MAX, "{}", line.len());
        }
    }
}

/// A pod without the Role: one line of information, however often podspan tries.
#[test]
fn a_refused_watch_on_the_own_pod_is_one_line_of_information() {
    let refused = || Failure::Forbidden {
        verb: Verb::Watch,
        user: Some(User::ServiceAccount {
            namespace: "shop".to_owned(),
            name: "cart".to_owned(),
        }),
    };
    let target = Target::own_pod("cart-1");
    let log = logged(|| {
        let mut journal = Journal::default();
        for _ in 0..5 {
            journal.failed(refused(), &target);
        }
        journal.answered(&target);
        journal.listed();
        for _ in 0..5 {
            journal.failed(refused(), &target);
        }
        journal.answered(&target);
    });
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains("DEBUG")).collect();
    let expected = [
        [
            "not followed: ",
            "pod cart-1 in namespace shop",
            "own-namespace",
        ],
        ["following the annotations", "podspan.dev/filter", "cart-1"],
        ["not followed; the last ones", "(403)", "ANNOTATIONS=off"],
        ["followed again", "INFO", "after_seconds"],
    ];
    assert_eq!(lines.len(), expected.len(), "{log}");
    for (line, words) in lines.iter().zip(expected) {
        assert!(line.contains("INFO"), "{line}");
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
}
