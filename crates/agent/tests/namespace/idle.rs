//! What podspan does when there is nothing to do.

use std::fs;
use std::thread;
use std::time::Duration;

use testbed::Lab;
use testbed::traffic::{Family, RawSocket, udp_datagrams};

use crate::scene::{Scene, VNI};

pub(crate) const TESTS: &[(&str, fn())] = &[(
    "idle_podspan_sleeps_until_there_is_traffic_and_logs_a_loss_after_it",
    sleeps,
)];

/// How often the threads of a process went to sleep so far.
fn sleeps_of(process: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let count = |task: fs::DirEntry| -> u64 {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        let field = "\nvoluntary_ctxt_switches:";
        let (_, rest) = status.split_once(field).unwrap();
        rest.lines().next().unwrap().trim().parse().unwrap()
    };
    tasks.map(|task| count(task.unwrap())).sum()
}

fn sleeps() {
    const WINDOW: Duration = Duration::from_secs(3);
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let (client, pod) = (lab.client.clone(), lab.pod.clone());
    for host in [&client, &pod, &lab.sensor] {
        // With IPv6 the kernels would ask for routers from time to time.
        host.namespace
            .set_sysctl("ipv6/conf/all/disable_ipv6", "1")
            .unwrap();
    }
    let scene = Scene::start(lab, Family::V4);
    udp_datagrams(&client, &pod, Family::V4, &[100; 100]).unwrap();
    let window = |_| {
        let before = sleeps_of(scene.agent.id());
        thread::sleep(WINDOW);
        sleeps_of(scene.agent.id()) - before
    };
    // At first there are answers to read and neighbours to check. Later, a window can still contain a
    // check of every ten or thirty seconds.
    let idle = (0..20).map(window).filter(|count| *count == 0);
    assert_eq!(idle.take(2).count(), 2, "windows of {WINDOW:?} without one");
    // An IPv4 header that ends beyond the frame, in a frame that does not fit.
    let mut malformed = [&pod.mac[..], &client.mac, &[0x08, 0x00, 0x43]].concat();
    malformed.resize(1514, 0);
    let socket = RawSocket::open(&client.eth0).unwrap();
    socket.send(&malformed).unwrap();
    // Without traffic the next check would come up to thirty seconds later.
    let mut agent = scene.agent;
    agent
        .wait_for_output("reason=\"malformed\" frames=1", Duration::from_secs(5))
        .unwrap();
}
