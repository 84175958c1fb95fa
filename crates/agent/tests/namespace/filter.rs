//! `FILTER`: what it rejects never reaches the ring, and everything else does.

use etherparse::{SlicedPacket, TransportSlice};
use testbed::traffic::{Family, UdpStream, tcp_bulk, udp_stream};
use testbed::{Frame, Lab, Process};

use crate::scene::{LIMIT, Scene, podspan, sensor_of};
use crate::streams::Streams;

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "a_stream_that_the_filter_rejects_is_not_in_the_ring_and_another_is",
        rejected_stream,
    ),
    (
        "inbound_is_what_the_pod_receives_and_outbound_what_it_sends",
        directions,
    ),
    (
        "a_filter_that_does_not_compile_ends_the_start_with_the_word",
        wrong_filter,
    ),
    (
        "a_stream_that_the_filter_rejects_costs_podspan_no_cpu_time",
        no_cpu_time,
    ),
    (
        "large_frames_have_the_verdict_of_the_segments_of_the_wire",
        large_frames,
    ),
];

pub(crate) const STREAM: UdpStream = UdpStream {
    size: 700,
    count: 3_000,
    per_second: 100_000,
};

/// How many of the frames are UDP over IPv4, and over IPv6.
pub(crate) fn udp_frames(frames: &[Frame]) -> (usize, usize) {
    let count = |is_v4: bool| {
        let is_udp = |frame: &&Frame| {
            let bytes = frame.as_ref().bytes;
            let Ok(packet) = SlicedPacket::from_ethernet(bytes) else {
                return false;
            };
            let version = matches!(packet.net, Some(etherparse::NetSlice::Ipv4(_)));
            matches!(packet.transport, Some(TransportSlice::Udp(_))) && version == is_v4
        };
        frames.iter().filter(is_udp).count()
    };
    (count(true), count(false))
}

/// Two streams to the pod, one of each family. The totals prove that the kernel rejected one of them:
/// the frames of the ring are as many as those of the other.
fn rejected_stream() {
    for (text, kept) in [
        ("not (udp and ip6)", Family::V4),
        ("ip6 and not icmp6", Family::V6),
    ] {
        let lab = Lab::builder().build().unwrap();
        let sensor = sensor_of(&lab, Family::V4);
        let environment = [("SENSOR", sensor.as_str()), ("FILTER", text)];
        let scene = Scene::start_with(lab, &environment, Vec::new());
        for family in Family::BOTH {
            udp_stream(&scene.lab.client, &scene.lab.pod, family, STREAM).unwrap();
        }
        let (_lab, outcome) = scene.end();
        let sent = usize::try_from(STREAM.count).unwrap();
        let expected = match kept {
            Family::V4 => (sent, 0),
            Family::V6 => (0, sent),
        };
        assert_eq!(udp_frames(&outcome.inner), expected, "{text}");
        let ring = outcome.totals.get("ring_packets");
        // Apart from the stream: resolving addresses.
        let others = 100;
        assert!(
            (u64::from(STREAM.count)..u64::from(STREAM.count) + others).contains(&ring),
            "{text}: {ring} frames entered the ring"
        );
        println!("FILTER={text:?}: {ring} frames in the ring, {expected:?} datagrams mirrored");
    }
}

/// A stream each way, of different numbers of datagrams: the filter keeps that of its direction.
fn directions() {
    let each = |count| UdpStream { count, ..STREAM };
    let (received, sent) = (each(2_000), each(1_000));
    for (text, kept) in [("inbound", received), ("outbound", sent)] {
        let lab = Lab::builder().build().unwrap();
        let sensor = sensor_of(&lab, Family::V4);
        let filter = format!("{text} and udp");
        let environment = [("SENSOR", sensor.as_str()), ("FILTER", filter.as_str())];
        let scene = Scene::start_with(lab, &environment, Vec::new());
        let (client, pod) = (&scene.lab.client, &scene.lab.pod);
        udp_stream(client, pod, Family::V4, received).unwrap();
        udp_stream(pod, client, Family::V4, sent).unwrap();
        let (_lab, outcome) = scene.end();
        let expected = (usize::try_from(kept.count).unwrap(), 0);
        assert_eq!(udp_frames(&outcome.inner), expected, "{text}");
    }
}

/// The kernel judges a large frame before it is split. A stream of such frames is complete at the sensor,
/// segment by segment, if the filter accepts it, and not a segment of it arrives if it does not.
fn large_frames() {
    const BYTES: usize = 4 << 20;
    let run = |text: &str| {
        let lab = Lab::builder().offloads(true).build().unwrap();
        let sensor = sensor_of(&lab, Family::V4);
        let environment = [("SENSOR", sensor.as_str()), ("FILTER", text)];
        let scene = Scene::start_with(lab, &environment, Vec::new());
        let sent = tcp_bulk(&scene.lab.client, &scene.lab.pod, Family::V4, BYTES).unwrap();
        let (_lab, outcome) = scene.end();
        (sent, outcome)
    };
    let (sent, outcome) = run("tcp and net 10.0.0.0/8 or tcp[tcpflags] & tcp-syn >= 0");
    let mut streams = Streams::default();
    for frame in &outcome.inner {
        streams.add(frame.as_ref().bytes);
    }
    streams.assert_hold(&[sent]);
    let seen = outcome.totals.get("frames_mirrored");
    let segments = outcome.inner.len();
    println!("{seen} frames in the ring, {segments} segments at the sensor");
    assert!(seen * 2 < segments as u64, "the frames were large");
    let (_, outcome) = run("not tcp");
    let is_tcp = |frame: &&Frame| {
        let packet = SlicedPacket::from_ethernet(frame.as_ref().bytes);
        packet.is_ok_and(|packet| matches!(packet.transport, Some(TransportSlice::Tcp(_))))
    };
    assert_eq!(outcome.inner.iter().filter(is_tcp).count(), 0);
    assert!(outcome.totals.get("ring_packets") < 100);
}

/// podspan's CPU time while a stream flows that is rejected, against that with the same stream mirrored.
fn no_cpu_time() {
    let used = |text: &str| {
        let lab = Lab::builder().build().unwrap();
        let sensor = sensor_of(&lab, Family::V4);
        let environment = [("SENSOR", sensor.as_str()), ("FILTER", text)];
        let scene = Scene::start_with(lab, &environment, Vec::new());
        let before = scene.agent.cpu_time().unwrap();
        let stream = UdpStream {
            count: 20_000,
            ..STREAM
        };
        udp_stream(&scene.lab.client, &scene.lab.pod, Family::V4, stream).unwrap();
        let after = scene.agent.cpu_time().unwrap();
        let used = after.saturating_sub(before);
        scene.end();
        used
    };
    let (rejected, mirrored) = (used("not udp"), used("udp"));
    println!("CPU time for 20,000 datagrams: {rejected:?} rejected, {mirrored:?} mirrored");
    assert!(
        rejected * 10 < mirrored,
        "{rejected:?} against {mirrored:?}"
    );
}

fn wrong_filter() {
    let lab = Lab::builder().build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    let environment = [("SENSOR", sensor.as_str()), ("FILTER", "tcp prot 80")];
    let mut agent = Process::spawn(podspan(&lab, &environment)).unwrap();
    let status = agent.wait(LIMIT).unwrap();
    let log = agent.stderr();
    assert_eq!(status.code(), Some(64), "{log}");
    assert!(
        log.contains("FILTER=\"tcp prot 80\": at byte 4, \"prot\":"),
        "{log}"
    );
}
