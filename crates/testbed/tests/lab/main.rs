//! Tests of the lab itself, which the other crates' tests and the demo use.
//!
//! They run without the threads of the usual test harness, because a user namespace must be entered
//! before the first thread exists.

mod processes;
mod receivers;
mod topology;

use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use testbed::user_namespace;

/// The longest time that a test waits for anything.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a test returns.
type Outcome = Result<(), Failed>;

fn main() {
    if let Err(error) = user_namespace::enter() {
        eprintln!("{error}");
        std::process::exit(1);
    }
    if std::env::args().nth(1).as_deref() == Some(processes::HOLD_A_CHILD) {
        return processes::hold_a_child();
    }
    let mut arguments = Arguments::from_args();
    // Counts must be exact on two cores: one test at a time by default.
    arguments.test_threads.get_or_insert(1);
    let trials = vec![
        Trial::test("hosts_reach_each_other", topology::hosts_reach_each_other),
        Trial::test(
            "segmentation_follows_the_switches",
            topology::segmentation_follows_the_switches,
        ),
        Trial::test(
            "big_tcp_limits_are_applied",
            topology::big_tcp_limits_are_applied,
        ),
        Trial::test(
            "vxlan_device_accepts_a_datagram",
            receivers::vxlan_device_accepts_a_datagram,
        ),
        Trial::test(
            "decoder_returns_the_inner_frame",
            receivers::decoder_returns_the_inner_frame,
        ),
        Trial::test(
            "routed_hop_reports_the_path_mtu",
            topology::routed_hop_reports_the_path_mtu,
        ),
        Trial::test(
            "narrow_client_keeps_to_its_mtu",
            topology::narrow_client_keeps_to_its_mtu,
        ),
        Trial::test(
            "processes_die_with_their_value",
            processes::processes_die_with_their_value,
        ),
        Trial::test(
            "processes_die_with_a_killed_parent",
            processes::processes_die_with_a_killed_parent,
        ),
        Trial::test(
            "namespaces_die_with_their_value",
            topology::namespaces_die_with_their_value,
        ),
        Trial::test(
            "panics_leave_the_namespace",
            topology::panics_leave_the_namespace,
        ),
        Trial::test("links_change_and_return", topology::links_change_and_return),
        Trial::test(
            "capabilities_are_reduced",
            processes::capabilities_are_reduced,
        ),
        Trial::test(
            "each_way_sends_the_same_datagrams",
            receivers::each_way_sends_the_same_datagrams,
        ),
        Trial::test(
            "sniffer_loses_nothing_in_a_burst",
            receivers::sniffer_loses_nothing_in_a_burst,
        ),
        Trial::test(
            "all_kinds_of_traffic_are_right",
            receivers::all_kinds_of_traffic_are_right,
        ),
        Trial::test(
            "unusual_frames_arrive_unchanged",
            receivers::unusual_frames_arrive_unchanged,
        ),
        Trial::test(
            "tcpdump_and_sniffer_agree",
            receivers::tcpdump_and_sniffer_agree,
        ),
        Trial::test("tshark_finds_damage", receivers::tshark_finds_damage),
        Trial::test("iperf3_reports", receivers::iperf3_reports),
        Trial::test(
            "missing_things_are_named",
            topology::missing_things_are_named,
        ),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}
