//! The pages of `METRICS`: their numbers are those of the log, and nobody who asks for them disturbs the mirroring.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use testbed::traffic::{Family, RawSocket, UdpStream, udp_stream};
use testbed::{Exposition, Host, Lab, Process};

use crate::endpoint::{connect, get};
use crate::memory::working_kib;
use crate::scene::{LIMIT, Scene, VNI, podspan, sensor_of};
use crate::totals::Totals;

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "the_scraped_metrics_are_those_of_the_last_line_of_totals",
        same_numbers,
    ),
    (
        "a_port_that_the_application_has_is_one_warning_and_podspan_mirrors",
        taken_port,
    ),
    (
        "what_is_missing_is_in_the_readiness_and_not_in_the_liveness",
        readiness,
    ),
    ("a_worker_that_is_stuck_is_not_alive", stuck),
];

/// The scene that measures memory and needs the processor.
pub(crate) const ALONE: &[(&str, fn())] = &[(
    "thousands_of_connections_slow_clients_and_garbage_lose_no_frame",
    flood,
)];

/// The samples of one scrape, by name and labels.
#[derive(Debug)]
pub(crate) struct Samples(HashMap<String, f64>);

impl Samples {
    fn scrape(pod: &Host) -> Self {
        let (status, text) = get(pod, "/metrics");
        assert_eq!(status, 200, "{text}");
        let samples = Exposition::read(&text).samples.into_iter();
        let samples = samples.map(|(name, value)| {
            let name = name.strip_prefix("podspan_").unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        Self(samples.collect())
    }

    /// The first scrape on which the equations of the accounting hold: they do when there is no traffic.
    pub(crate) fn settled(pod: &Host) -> Self {
        let begun = Instant::now();
        loop {
            let samples = Self::scrape(pod);
            if samples.add_up() {
                return samples;
            }
            assert!(begun.elapsed() < LIMIT, "they do not add up: {samples:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// One sample, by its name and labels.
    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> u64 {
        let value = self.0.get(name);
        whole(*value.unwrap_or_else(|| panic!("no {name} in {self:?}")))
    }

    /// The sum of a family.
    fn sum(&self, family: &str) -> u64 {
        let samples = self.0.iter();
        let of_family = samples.filter(|(name, _)| name.split('{').next() == Some(family));
        whole(of_family.map(|(_, value)| value).sum())
    }

    fn add_up(&self) -> bool {
        let of = |family: &str| self.sum(&format!("{family}_total"));
        of("ring_packets") == of("frames_seen") + of("ring_drops")
            && of("frames_seen") == of("frames_mirrored") + of("frames_dropped")
            && of("datagrams_built") == of("datagrams_sent") + of("datagrams_dropped")
    }

    /// Names and numbers that the line of totals has too.
    fn of_totals(&self, totals: &Totals) -> Vec<(String, u64, u64)> {
        let names = [
            "ring_packets",
            "ring_drops",
            "frames_seen",
            "frames_mirrored",
            "frames_dropped",
            "datagrams_built",
            "datagrams_sent",
            "datagrams_dropped",
            "messages_sent",
            "trailer_bytes",
        ];
        let mut all: Vec<_> = names
            .iter()
            .map(|name| {
                let scraped = self.sum(&format!("{name}_total"));
                ((*name).to_owned(), scraped, totals.get(name))
            })
            .collect();
        let sent = self.get("sent_bytes_total");
        all.push(("sent_bytes".to_owned(), sent, totals.get("bytes_sent")));
        for (name, value) in &self.0 {
            let reason = name
                .strip_prefix("frames_dropped_total{reason=\"")
                .and_then(|rest| rest.strip_suffix("\"}"));
            if let Some(reason) = reason {
                let logged = totals.frames_dropped.get(reason).copied().unwrap_or(0);
                all.push((reason.to_owned(), whole(*value), logged));
            }
        }
        all
    }

    /// Asserts that these numbers are not above those at the end.
    pub(crate) fn assert_at_most(&self, totals: &Totals) {
        for (name, scraped, logged) in self.of_totals(totals) {
            assert!(scraped <= logged, "{name}: {scraped}, later {logged}");
        }
    }
}

/// Counters are whole and small here.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is checked"
)]
fn whole(value: f64) -> u64 {
    assert!(
        value >= 0.0 && value.fract() == 0.0 && value < 1e15,
        "{value}"
    );
    value as u64
}

/// A lab in which nobody sends unless a test does.
fn quiet() -> Lab {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    for host in [&lab.client, &lab.pod, &lab.sensor] {
        // With IPv6 the kernels would ask for routers from time to time.
        let namespace = &host.namespace;
        namespace
            .set_sysctl("ipv6/conf/all/disable_ipv6", "1")
            .unwrap();
    }
    lab
}

fn same_numbers() {
    let lab = quiet();
    let sensor = sensor_of(&lab, Family::V4);
    let environment = [
        ("SENSOR", sensor.as_str()),
        ("RING_SIZE", "4MiB"),
        ("NODE_NAME", "worker-1"),
    ];
    let (client, pod) = (lab.client.clone(), lab.pod.clone());
    let scene = Scene::start_with(lab, &environment, Vec::new());
    let stream = |size, count| UdpStream {
        size,
        count,
        per_second: 20_000,
    };
    udp_stream(&client, &pod, Family::V4, stream(100, 2000)).unwrap();
    udp_stream(&client, &pod, Family::V4, stream(1400, 1000)).unwrap();
    let mut malformed = [&pod.mac[..], &client.mac, &[0x08, 0x00, 0x43]].concat();
    malformed.resize(1514, 0);
    let socket = RawSocket::open(&client.eth0).unwrap();
    socket.send(&malformed).unwrap();
    // What the kernel sends by itself, such as requests for a neighbour's address, comes within some seconds. So a
    // scrape is compared with the next one, and the last one with the log.
    let mut before = Samples::settled(&pod);
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        thread::sleep(Duration::from_secs(1));
        let samples = Samples::settled(&pod);
        let is_same = samples.get("frames_seen_total") == before.get("frames_seen_total");
        before = samples;
        if is_same && before.get("frames_dropped_total{reason=\"malformed\"}") == 1 {
            break;
        }
    }
    assert_eq!(
        before.get("interface_state{interface=\"eth0\",state=\"captured\"}"),
        1
    );
    assert_eq!(before.get("sensors{state=\"in_use\"}"), 1);
    let mtu = format!("sensor_path_mtu_bytes{{sensor=\"{sensor}\"}}");
    assert_eq!(before.get(&mtu), 1500);
    let batches = before.get("batch_datagrams_count");
    assert!(batches > 0);
    assert_eq!(before.get("latency_seconds_count"), batches);
    assert_eq!(
        before.get("batch_datagrams_sum"),
        before.get("datagrams_built_total")
    );
    // Each frame waits in the ring until its block is closed.
    let mean = before.0["latency_seconds_sum"] / before.0["latency_seconds_count"];
    assert!(mean > 1e-5 && mean < LIMIT.as_secs_f64(), "{mean} s");
    let (_, text) = get(&pod, "/metrics");
    let info = format!(
        "podspan_info{{version=\"{}\",vni=\"{VNI}\",node=\"worker-1\",pod=\"\",namespace=\"\"}} 1",
        env!("CARGO_PKG_VERSION")
    );
    assert!(text.contains(&info), "{text}");
    let (_, json) = get(&pod, "/status");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let last = Samples::settled(&pod);
    let (_lab, outcome) = scene.end();
    for (name, scraped, logged) in last.of_totals(&outcome.totals) {
        assert_eq!(scraped, logged, "{name}");
    }
    let seen = outcome.totals.get("frames_seen");
    assert_eq!(json["totals"]["frames_seen"], seen);
    assert!(seen > 3000);
}

fn taken_port() {
    let lab = quiet();
    let (client, pod) = (lab.client.clone(), lab.pod.clone());
    let taken = pod
        .namespace
        .run(|| TcpListener::bind("[::]:9469"))
        .unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    let mut agent = Process::spawn(podspan(&lab, &[("SENSOR", &sensor)])).unwrap();
    agent.wait_for_output("METRICS=:9469: ", LIMIT).unwrap();
    agent.wait_for_output("capturing (index", LIMIT).unwrap();
    let stream = UdpStream {
        size: 100,
        count: 200,
        per_second: 2000,
    };
    udp_stream(&client, &pod, Family::V4, stream).unwrap();
    agent.terminate().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success());
    let log = agent.stderr();
    Totals::read(&log).assert_lossless_but(&[]);
    let warnings: Vec<_> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    for part in [
        "METRICS=:9469",
        "Address already in use",
        "METRICS=:9470",
        "METRICS=off",
    ] {
        assert!(warnings[0].contains(part), "{part} in {warnings:?}");
    }
    drop(taken);
}

fn readiness() {
    let lab = quiet();
    let pod = lab.pod.clone();
    let sensor = sensor_of(&lab, Family::V4);
    for (ready, code) in [("lenient", 200), ("strict", 503)] {
        let environment = [
            ("SENSOR", sensor.as_str()),
            ("INTERFACE", "eth0,net7"),
            ("READY", ready),
        ];
        let mut agent = Process::spawn(podspan(&lab, &environment)).unwrap();
        agent.wait_for_output("capturing (index", LIMIT).unwrap();
        agent.wait_for_output("waiting for it", LIMIT).unwrap();
        agent.wait_for_output("metrics are served", LIMIT).unwrap();
        let expected = (code, "not bound: net7 does not exist\n".to_owned());
        assert_eq!(get(&pod, "/readyz"), expected);
        assert_eq!(get(&pod, "/livez"), (200, "ok\n".to_owned()));
        agent.terminate().unwrap();
        assert!(agent.wait(LIMIT).unwrap().success());
    }
    // Without NET_RAW the start fails.
    let program = env!("CARGO_BIN_EXE_podspan");
    let mut command = pod.namespace.command_with_capabilities(program, &[]);
    command.env_clear().env("SENSOR", &sensor);
    command.env("ON_FAILURE", "idle").env("READY", "strict");
    let mut capless = Process::spawn(command).unwrap();
    capless
        .wait_for_output("metrics are served", LIMIT)
        .unwrap();
    let (code, text) = get(&pod, "/readyz");
    assert_eq!(code, 503);
    assert!(text.starts_with("idle after a failure: "), "{text}");
    assert_eq!(get(&pod, "/livez").0, 200);
    assert_eq!(Samples::scrape(&pod).get("idle"), 1);
    capless.terminate().unwrap();
    assert!(capless.wait(LIMIT).unwrap().success());
    // With a wrong setting too.
    let mut wrong = Process::spawn(podspan(
        &lab,
        &[("SENSOR", &sensor), ("MTU", "1"), ("ON_FAILURE", "idle")],
    ))
    .unwrap();
    wrong.wait_for_output("MTU=", LIMIT).unwrap();
    let (code, text) = get(&pod, "/readyz");
    assert_eq!(code, 200);
    assert!(text.contains("MTU=\"1\""), "{text}");
    wrong.terminate().unwrap();
    assert!(wrong.wait(LIMIT).unwrap().success());
}

/// A debugger stops the worker's thread, and no other one.
fn stuck() {
    /// It sleeps for ten seconds at most, and is stuck if it is late by ten more.
    const TIME_MAX: Duration = Duration::from_mins(1);
    let lab = quiet();
    let pod = lab.pod.clone();
    let scene = Scene::start(lab, Family::V4);
    let worker = thread_of(scene.agent.id(), "worker");
    assert_eq!(get(&pod, "/livez"), (200, "ok\n".to_owned()));
    ptrace::attach(worker).unwrap();
    waitpid(worker, Some(WaitPidFlag::__WALL)).unwrap();
    let begun = Instant::now();
    while get(&pod, "/livez").0 == 200 {
        assert!(begun.elapsed() < TIME_MAX);
        thread::sleep(Duration::from_millis(200));
    }
    let (code, text) = get(&pod, "/livez");
    assert_eq!(code, 503);
    assert!(text.starts_with("the worker is stuck for "), "{text}");
    let (code, text) = get(&pod, "/readyz");
    assert_eq!(code, 200);
    assert!(text.starts_with("the worker is stuck for "), "{text}");
    ptrace::detach(worker, None).unwrap();
    let begun = Instant::now();
    while get(&pod, "/livez").0 != 200 {
        assert!(begun.elapsed() < TIME_MAX);
        thread::sleep(Duration::from_millis(20));
    }
    scene.end();
}

/// A thread of a process, by its name.
fn thread_of(process: u32, name: &str) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let is_it = |task: &fs::DirEntry| {
        let found = fs::read_to_string(task.path().join("comm")).unwrap();
        found.trim_end() == name
    };
    let task = tasks.map(Result::unwrap).find(is_it).unwrap();
    let id = task.file_name().to_str().unwrap().parse().unwrap();
    Pid::from_raw(id)
}

/// Connections that send nonsense, and heads without an end.
fn garbage(stop: &AtomicBool) {
    let endless = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(1 << 20));
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let bytes = [&[0xff; 4096][..], b"GET\r\n\r\n", endless.as_bytes()][round % 3];
        let Ok(mut stream) = connect() else { continue };
        // It closes while this writes.
        let _ = stream.write_all(bytes);
        let _ = stream.read(&mut [0; 512]);
    }
}

/// A request that comes so slowly that it never ends; returns when the connection is closed.
fn slow() {
    let mut stream = connect().unwrap();
    let begun = Instant::now();
    let head = b"GET /metrics HTTP/1.1\r\nX: ".iter();
    for byte in head.chain([b'x'].iter().cycle()) {
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_mins(1),
            "a slow client is not closed"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// Many connections, of which some ask for something, and the last ones stay open.
fn crowd(connections: usize) {
    let mut open = VecDeque::new();
    for number in 0..connections {
        let Ok(mut stream) = connect() else { continue };
        if number % 4 == 0 {
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        open.push_back(stream);
        if open.len() > 50 {
            open.pop_front();
        }
    }
}

fn flood() {
    /// Everything that is held for connections takes less.
    const MEMORY_MAX: u64 = 8 << 10;
    let lab = quiet();
    let (client, pod) = (lab.client.clone(), lab.pod.clone());
    let scene = Scene::start(lab, Family::V4);
    let stream = UdpStream {
        size: 500,
        count: 2000,
        per_second: 5000,
    };
    udp_stream(&client, &pod, Family::V4, stream).unwrap();
    assert_eq!(get(&pod, "/livez").0, 200);
    let id = scene.agent.id();
    let before = working_kib(id);
    let stop = AtomicBool::new(false);
    let most = thread::scope(|scope| {
        let pod = &pod;
        let in_pod = move |work: &(dyn Fn() + Sync)| pod.namespace.run(work);
        let many: Vec<_> = (0..10)
            .map(|_| scope.spawn(move || in_pod(&|| crowd(1000))))
            .collect();
        let stop = &stop;
        let garbled = scope.spawn(move || in_pod(&|| garbage(stop)));
        let slow = scope.spawn(move || in_pod(&slow));
        let mut most = 0;
        while !(many.iter().all(ScopedJoinHandle::is_finished) && slow.is_finished()) {
            udp_stream(&client, pod, Family::V4, stream).unwrap();
            most = most.max(working_kib(id));
            assert_eq!(get(pod, "/livez").0, 200);
        }
        stop.store(true, Ordering::Relaxed);
        garbled.join().unwrap();
        slow.join().unwrap();
        for crowd in many {
            crowd.join().unwrap();
        }
        most
    });
    assert!(most < before + MEMORY_MAX, "{before} KiB, then {most} KiB");
    let samples = Samples::settled(&pod);
    assert!(samples.get("http_connections_evicted_total") > 0);
    let (_lab, outcome) = scene.end();
    outcome.totals.assert_lossless_but(&[]);
}
