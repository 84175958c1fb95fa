//! podspan's privileges, and its use of CPU and memory.

use std::fs;
use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use caps::CapSet;
use testbed::traffic::{Family, udp_datagrams};
use testbed::{Lab, Process, refuse_setsockopt};

use crate::memory::{BOUND_KIB, working_kib};
use crate::scene::{LIMIT, Scene, VNI, podspan, sensor_of};

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "without_net_raw_it_ends_with_77_and_the_lines_to_add",
        without_net_raw,
    ),
    (
        "with_only_net_raw_it_mirrors_and_drops_all_capabilities",
        with_only_net_raw,
    ),
    (
        "a_refused_mark_is_no_missing_capability_and_the_kernel_is_named",
        mark_refused,
    ),
    (
        "its_memory_is_closed_to_others_of_the_same_user",
        not_dumpable,
    ),
    ("idle_it_uses_little_cpu_and_memory", idle),
];

fn without_net_raw() {
    let lab = Lab::builder().build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    let program = env!("CARGO_BIN_EXE_podspan");
    let mut command = lab.pod.namespace.command_with_capabilities(program, &[]);
    command.env_clear().env("SENSOR", &sensor);
    let mut agent = Process::spawn(command).unwrap();
    assert_eq!(agent.wait(LIMIT).unwrap().code(), Some(77));
    let log = agent.stderr();
    assert!(log.contains("add: [NET_RAW]"), "{log}");
}

fn with_only_net_raw() {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let scene = Scene::start(lab, Family::V4);
    for (field, want) in [("CapEff", 0), ("CapPrm", 0), ("CapInh", 0), ("CapAmb", 0)] {
        let found = scene.agent.status_field(field).unwrap();
        assert_eq!(u64::from_str_radix(found.trim(), 16), Ok(want), "{field}");
    }
    // Every thread: capabilities are a thread's.
    let tasks = format!("/proc/{}/task", scene.agent.id());
    for task in fs::read_dir(tasks).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
    udp_datagrams(&scene.lab.client, &scene.lab.pod, Family::V4, &[100; 20]).unwrap();
    let (_lab, outcome) = scene.end();
    outcome.totals.assert_lossless_but(&[]);
}

/// As before Linux 5.17, where the ring needs `NET_RAW` and the mark needs `NET_ADMIN`.
fn mark_refused() {
    let lab = Lab::builder().build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    let mut command = podspan(&lab, &[("SENSOR", &sensor)]);
    refuse_setsockopt(&mut command, libc::SOL_SOCKET, libc::SO_MARK);
    let mut agent = Process::spawn(command).unwrap();
    assert_eq!(agent.wait(LIMIT).unwrap().code(), Some(77));
    let log = agent.stderr();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    for word in ["SO_MARK", "5.17", release.trim()] {
        assert!(log.contains(word), "{word} is missing in: {log}");
    }
    assert!(!log.contains("NET_RAW capability is missing"), "{log}");
}

/// A process without capabilities can read the memory of its user's other processes, unless they
/// forbid it.
fn not_dumpable() {
    let lab = Lab::builder().build().unwrap();
    let scene = Scene::start(lab, Family::V4);
    let pod = &scene.lab.pod.namespace;
    let mut command = pod.command_with_capabilities("sleep", &[]);
    command.arg("60");
    let other = Process::spawn(command).unwrap();
    let processes = [scene.agent.id(), other.id()];
    let (of_podspan, of_another) = thread::spawn(move || {
        // Capabilities are a thread's, and this one ends here.
        caps::clear(None, CapSet::Effective).unwrap();
        let [podspan, other] =
            processes.map(|process| fs::read(format!("/proc/{process}/environ")));
        (podspan, other)
    })
    .join()
    .unwrap();
    assert!(of_another.is_ok(), "{of_another:?}");
    let refused = of_podspan.map(|bytes| bytes.len()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    scene.end();
}

fn idle() {
    const WINDOW: Duration = Duration::from_secs(3);
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let scene = Scene::start(lab, Family::V4);
    udp_datagrams(&scene.lab.client, &scene.lab.pod, Family::V4, &[100; 100]).unwrap();
    // For some seconds after traffic, podspan reads the network's answers.
    thread::sleep(Duration::from_secs(7));
    // The minimum of some windows: other work on the machine makes each system call slower.
    let window = |_| {
        let before = scene.agent.cpu_time().unwrap();
        thread::sleep(WINDOW);
        scene.agent.cpu_time().unwrap().saturating_sub(before)
    };
    let used = (0..3).map(window).min().unwrap();
    let working = working_kib(scene.agent.id());
    let share = used.as_secs_f64() / WINDOW.as_secs_f64();
    println!(
        "idle: {:.3} % of a core, {working} KiB resident apart from the ring and the program",
        share * 100.0
    );
    // Several times the usual share, because a busy machine makes each system call slower.
    assert!(share < 0.0005, "{used:?} in {WINDOW:?}");
    assert!(working < BOUND_KIB, "{working} KiB");
    scene.end();
}
