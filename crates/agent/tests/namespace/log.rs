//! Standard error that is read late or never: mirroring, the control side and the end continue.

use std::fmt::Write as _;
use std::io::Read as _;
use std::thread;
use std::time::{Duration, Instant};

use testbed::traffic::{Family, UdpStream, udp_stream};
use testbed::{Decoded, FullPipe, Lab, Process};

use crate::scene::{LIMIT, PORT, VNI, decoded_at, podspan, sensor_of};
use crate::totals::Totals;

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "a_log_that_nobody_reads_delays_neither_sensors_nor_the_end",
        not_read,
    ),
    (
        "a_late_reader_gets_whole_lines_and_the_number_of_dropped_ones",
        read_late,
    ),
    (
        "an_error_at_the_start_that_nobody_reads_ends_the_process",
        error_not_read,
    ),
];

/// More time than a busy machine needs for anything here.
const TIMEOUT: Duration = Duration::from_mins(1);

/// How many of a batch of datagrams, each of another flow, arrive at the lab's sensor.
fn mirrored(lab: &Lab) -> (usize, usize) {
    const FLOWS: usize = 16;
    let sniffer = decoded_at(&lab.sensor);
    let stream = UdpStream {
        size: 64,
        count: 5,
        per_second: 400,
    };
    for _ in 0..FLOWS {
        udp_stream(&lab.client, &lab.pod, Family::V4, stream).unwrap();
    }
    thread::sleep(Duration::from_millis(100));
    let (Decoded { sink, .. }, _) = sniffer.stop().unwrap();
    let copies = sink
        .iter()
        .filter(|frame| frame.bytes.len() == 64 + 42)
        .count();
    (copies, FLOWS * 5)
}

/// Two sensors, of which one is missing: the control side removes it from the table, although no line
/// of the log can be written.
fn not_read() {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let FullPipe { writer, reader, .. } = FullPipe::new().unwrap();
    let both = format!("{},10.77.0.99:{PORT}", sensor_of(&lab, Family::V4));
    let command = podspan(
        &lab,
        &[("SENSOR", &both), ("SPREAD", "flows"), ("LOG", "trace")],
    );
    let mut agent = Process::spawn_with_stderr(command, writer).unwrap();
    let end = Instant::now() + TIMEOUT;
    loop {
        let (copies, all) = mirrored(&lab);
        if copies == all {
            break;
        }
        assert!(Instant::now() < end, "{copies} of {all} arrive");
    }
    agent.terminate().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success());
    drop(reader);
}

/// Each sensor has one line at the start, and the queue holds far fewer lines.
fn read_late() {
    const SENSORS: usize = 2000;
    let lab = Lab::builder().build().unwrap();
    let full = FullPipe::new().unwrap();
    let sensors = (0..SENSORS).fold(String::new(), |mut list, number| {
        let separator = if list.is_empty() { "" } else { "," };
        write!(list, "{separator}{}:{}", lab.sensor.ipv4, 5000 + number).unwrap();
        list
    });
    let command = podspan(&lab, &[("SENSOR", &sensors)]);
    let mut agent = Process::spawn_with_stderr(command, full.writer).unwrap();
    // The worker's thread starts after these lines; it is the third, after the main thread and the
    // log's.
    let end = Instant::now() + TIMEOUT;
    while agent
        .status_field("Threads")
        .unwrap()
        .parse::<u32>()
        .unwrap()
        < 3
    {
        assert!(Instant::now() < end, "the worker does not start");
        thread::sleep(Duration::from_millis(10));
    }
    let mut pipe = full.reader;
    let reader = thread::spawn(move || {
        let mut read = Vec::new();
        pipe.read_to_end(&mut read).unwrap();
        read
    });
    agent.terminate().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success());
    let read = reader.join().unwrap();
    let log = String::from_utf8(read[full.filled..].to_vec()).unwrap();
    let is_whole = |line: &str| line.starts_with("20") && line.split(' ').nth(1).is_some();
    assert!(log.ends_with('\n') && log.lines().all(is_whole), "{log}");
    let written = log
        .lines()
        .filter(|line| line.contains(" path_mtu="))
        .count();
    let dropped = |line: &str| -> Option<usize> {
        let (_, number) = line
            .split_once("log lines were dropped")?
            .1
            .split_once("lines=")?;
        number.parse().ok()
    };
    let dropped: usize = log.lines().filter_map(dropped).sum();
    assert!(written > 0 && dropped > 0, "{log}");
    // Some of the other lines may be among the dropped ones.
    assert!(
        (SENSORS..SENSORS + 10).contains(&(written + dropped)),
        "{log}"
    );
    Totals::read(&log);
}

fn error_not_read() {
    let lab = Lab::builder().build().unwrap();
    let FullPipe { writer, reader, .. } = FullPipe::new().unwrap();
    let program = env!("CARGO_BIN_EXE_podspan");
    let mut command = lab.pod.namespace.command_with_capabilities(program, &[]);
    command
        .env_clear()
        .env("SENSOR", sensor_of(&lab, Family::V4));
    let mut agent = Process::spawn_with_stderr(command, writer).unwrap();
    assert_eq!(agent.wait(LIMIT).unwrap().code(), Some(77));
    drop(reader);
}
