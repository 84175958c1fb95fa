//! The captures and the verifiers agree with what was sent, and find damage.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use libtest_mimic::Failed;
use testbed::traffic::{self, Family, ping};
use testbed::verify::Protocol::{Fragment, Icmp, Icmpv6, Tcp, Tcp6, Udp, Udp6};
use testbed::verify::Verifier;
use testbed::{CaptureWriter, Decoded, Decoder, Filter, Frame, Lab, Sniffer, Tcpdump, tshark};

use crate::{Outcome, TIMEOUT};

const VNI: u32 = 0x0012_3456;

/// Makes IPv4 path MTU discovery strict: don't-fragment on each datagram.
pub(crate) fn discover_path_mtu(socket: &UdpSocket) {
    let mode = libc::IP_PMTUDISC_DO;
    // SAFETY: the kernel reads the four bytes of `mode`.
    let answer = unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(socket),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const mode).cast(),
            4,
        )
    };
    assert_eq!(answer, 0);
}

/// A VXLAN datagram made by hand with an inner broadcast frame.
fn vxlan_payload(vni: u32) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    let mut payload = vec![8, 0, 0, 0, a, b, c, 0];
    payload.extend([0xff; 6]);
    payload.extend([2, 0, 0, 0, 9, 9, 0x88, 0xb5]);
    payload.extend([0x5a; 46]);
    payload
}

/// Sends the payload as podspan does: don't-fragment, no checksum over IPv4.
fn send_datagram(lab: &Lab, to: IpAddr, payload: &[u8]) -> Outcome {
    let address: IpAddr = if to.is_ipv4() {
        [0; 4].into()
    } else {
        [0; 16].into()
    };
    let socket = lab
        .pod
        .namespace
        .run(|| UdpSocket::bind((address, 50_000)))?;
    if to.is_ipv4() {
        let on: libc::c_int = 1;
        // SAFETY: the kernel reads the four bytes of `on`.
        let answer = unsafe {
            libc::setsockopt(
                std::os::fd::AsRawFd::as_raw_fd(&socket),
                libc::SOL_SOCKET,
                libc::SO_NO_CHECK,
                (&raw const on).cast(),
                4,
            )
        };
        assert_eq!(answer, 0);
        discover_path_mtu(&socket);
    }
    socket.send_to(payload, (to, 4789))?;
    Ok(())
}

pub(crate) fn vxlan_device_accepts_a_datagram() -> Outcome {
    let lab = Lab::builder().vxlan(VNI, 4789).build()?;
    let (over_v4, over_v6) = lab.vxlan.as_ref().ok_or("no vxlan devices")?;
    for (device, to) in [
        (over_v4, lab.sensor.ipv4.into()),
        (over_v6, lab.sensor.ipv6.into()),
    ] {
        let sniffer = Sniffer::to_memory(&lab.sensor.namespace, device.name(), Filter::Incoming)?;
        send_datagram(&lab, to, &vxlan_payload(VNI))?;
        send_datagram(&lab, to, &vxlan_payload(VNI + 1))?;
        let (frames, _) = sniffer.stop()?;
        assert_eq!(frames.len(), 1, "{} received {frames:?}", device.name());
        assert_eq!(frames[0].bytes, vxlan_payload(VNI)[8..]);
        let statistics = device.statistics()?;
        assert_eq!(
            (
                statistics.rx_packets,
                statistics.rx_errors,
                statistics.rx_dropped
            ),
            (1, 0, 0)
        );
    }
    Ok(())
}

pub(crate) fn decoder_returns_the_inner_frame() -> Outcome {
    let lab = Lab::builder().build()?;
    let sink = Decoded {
        decoder: Decoder::new(VNI, 4789, 1500),
        sink: Vec::<Frame>::new(),
    };
    let sniffer = Sniffer::start(&lab.sensor.namespace, "eth0", Filter::Incoming, sink)?;
    for to in [lab.sensor.ipv4.into(), lab.sensor.ipv6.into()] {
        send_datagram(&lab, to, &vxlan_payload(VNI))?;
    }
    let (sink, totals) = sniffer.stop()?;
    assert_eq!(
        sink.decoder.decoded(),
        2,
        "{:?} of {totals:?}",
        sink.decoder.anomalies()
    );
    assert!(sink.decoder.anomalies().is_empty());
    assert_eq!(sink.sink[1].bytes, vxlan_payload(VNI)[8..]);
    Ok(())
}

pub(crate) fn each_way_sends_the_same_datagrams() -> Outcome {
    let lab = Lab::builder().build()?;
    let path = traffic::Path {
        from: &lab.pod,
        to: &lab.sensor,
        source_port: 61_000,
        port: 4789,
        mark: 7,
    };
    let payloads = vec![vxlan_payload(VNI); 5];
    for kind in traffic::SocketKind::ALL {
        let sink = Decoded {
            decoder: Decoder::new(VNI, 4789, 1500),
            sink: Vec::<Frame>::new(),
        };
        let sniffer = Sniffer::start(&lab.sensor.namespace, "eth0", Filter::Incoming, sink)?;
        let _unread = lab
            .sensor
            .namespace
            .run(|| UdpSocket::bind((lab.sensor.ipv4, 4789)))?;
        let sent = traffic::Sender::open(kind, path, &payloads)?.send()?;
        let (sink, _) = sniffer.stop()?;
        assert_eq!((sent, sink.sink.len()), (5, 5), "{kind:?}");
        assert!(sink.decoder.anomalies().is_empty(), "{kind:?}");
        assert_eq!(sink.sink[4].bytes, vxlan_payload(VNI)[8..], "{kind:?}");
    }
    Ok(())
}

pub(crate) fn sniffer_loses_nothing_in_a_burst() -> Outcome {
    let lab = Lab::builder().build()?;
    let sniffer = Sniffer::to_memory(&lab.client.namespace, "eth0", Filter::Outgoing)?;
    let stream = traffic::UdpStream {
        size: 64,
        count: 50_000,
        per_second: u32::MAX,
    };
    let outcome = traffic::udp_stream(&lab.client, &lab.pod, Family::V4, stream)?;
    let (frames, totals) = sniffer.stop()?;
    let udp = frames
        .iter()
        .filter(|frame| frame.bytes.get(23) == Some(&17))
        .count();
    assert_eq!((udp as u64, totals.dropped), (outcome.sent, 0));
    Ok(())
}

pub(crate) fn all_kinds_of_traffic_are_right() -> Outcome {
    let lab = Lab::builder().offloads(false).build()?;
    let folder = tempfile::tempdir()?;
    let sink = (
        CaptureWriter::create(folder.path().join("all.pcapng"))?,
        Verifier::new(),
    );
    let sniffer = Sniffer::start(&lab.pod.namespace, "eth0", Filter::All, sink)?;
    let sizes: Vec<usize> = (1..=8900).step_by(317).chain([8900]).collect();
    for family in Family::BOTH {
        let bodies = [(1, 1), (0, 70_000), (70_000, 0), (1460, 1460)];
        let outcome = traffic::tcp_requests(&lab.client, &lab.pod, family, &bodies)?;
        assert!(outcome.upstream > 71_461 && outcome.downstream > 71_461);
        traffic::tcp_bulk(&lab.pod, &lab.client, family, 3 << 20)?;
        assert_eq!(
            traffic::udp_datagrams(&lab.client, &lab.pod, family, &sizes)?.received,
            30
        );
        traffic::reset_connection(&lab.client, &lab.pod, family)?;
        traffic::refused_connection(&lab.client, &lab.pod, family)?;
        for size in [64, 8000] {
            ping(
                &lab.client.namespace,
                family.address(&lab.pod),
                size,
                TIMEOUT,
            )?;
        }
    }
    let ((file, verifier), totals) = sniffer.stop()?;
    assert_eq!(
        (totals.dropped, verifier.wrong()),
        (0, 0),
        "{:?}",
        verifier.counts()
    );
    for protocol in [Icmp, Icmpv6, Tcp, Tcp6, Udp, Udp6, Fragment] {
        assert!(verifier.counts().contains_key(&protocol), "no {protocol}");
    }
    assert!(verifier.counts()[&Fragment].joined >= 4);
    let findings = tshark::examine(&file.finish()?, TIMEOUT * 6)?;
    assert_eq!(
        (findings.frames, findings.wrong()),
        (totals.seen, 0),
        "{findings:?}"
    );
    assert_eq!(
        (findings.lost_segment, findings.ack_lost_segment),
        (0, 0),
        "{findings:?}"
    );
    Ok(())
}

pub(crate) fn unusual_frames_arrive_unchanged() -> Outcome {
    let lab = Lab::builder().build()?;
    let socket = traffic::RawSocket::open(&lab.client.eth0)?;
    let samples = traffic::samples(lab.client.mac, lab.pod.mac);
    let sniffer = Sniffer::to_memory(&lab.pod.namespace, "eth0", Filter::Incoming)?;
    for (name, frame) in &samples {
        socket
            .send(frame)
            .map_err(|error| format!("{name}: {error}"))?;
    }
    let (frames, _) = sniffer.stop()?;
    for (name, sample) in &samples {
        let found = frames.iter().any(|frame| frame.bytes == *sample);
        assert!(
            found,
            "{name} is missing or changed: {sample:02x?} is not in {frames:02x?}"
        );
    }
    Ok(())
}

pub(crate) fn tcpdump_and_sniffer_agree() -> Outcome {
    let lab = Lab::builder().offloads(false).build()?;
    let tcpdump = Tcpdump::start(&lab.pod.namespace, "eth0", "")?;
    let sniffer = Sniffer::to_memory(&lab.pod.namespace, "eth0", Filter::All)?;
    traffic::tcp_requests(&lab.client, &lab.pod, Family::V6, &[(20_000, 20_000)])?;
    traffic::udp_datagrams(&lab.client, &lab.pod, Family::V4, &[1, 8900])?;
    let (captured, _) = sniffer.stop()?;
    let dumped = tcpdump.stop()?;
    // tcpdump started earlier and ended later; the frames in between must be the same.
    let bytes = |frames: &[Frame]| frames.iter().map(|f| f.bytes.clone()).collect::<Vec<_>>();
    let (captured, dumped) = (bytes(&captured), bytes(&dumped));
    assert!(!captured.is_empty());
    assert!(
        dumped
            .windows(captured.len())
            .any(|window| window == captured)
    );
    Ok(())
}

pub(crate) fn tshark_finds_damage() -> Outcome {
    let lab = Lab::builder().offloads(false).build()?;
    let sniffer = Sniffer::to_memory(&lab.pod.namespace, "eth0", Filter::All)?;
    traffic::tcp_requests(&lab.client, &lab.pod, Family::V4, &[(10_000, 10_000)])?;
    let (mut frames, _) = sniffer.stop()?;
    frames.retain(|frame| frame.bytes.get(23) == Some(&6));
    let full = frames
        .iter()
        .rposition(|f| f.bytes.len() == 1514)
        .ok_or("no full segment")?;
    let folder = tempfile::tempdir()?;
    let examine = |name: &str, frames: &[Frame]| -> Result<tshark::Findings, Failed> {
        let mut file = CaptureWriter::create(folder.path().join(name))?;
        frames
            .iter()
            .try_for_each(|frame| file.write(frame.as_ref()))?;
        Ok(tshark::examine(&file.finish()?, TIMEOUT * 6)?)
    };
    let right = examine("right", &frames)?;
    assert_eq!((right.frames, right.wrong()), (frames.len() as u64, 0));
    assert_eq!((right.lost_segment, right.ack_lost_segment), (0, 0));
    let mut damaged = frames.clone();
    damaged[full].bytes[1000] ^= 1;
    assert_eq!(examine("damaged", &damaged)?.bad_tcp, 1);
    damaged = frames.clone();
    damaged[full].bytes[24] ^= 1;
    assert_eq!(examine("header", &damaged)?.bad_ip, 1);
    damaged = frames;
    damaged.remove(full);
    let gap = examine("gap", &damaged)?;
    assert!(gap.lost_segment + gap.ack_lost_segment > 0, "{gap:?}");
    Ok(())
}

pub(crate) fn iperf3_reports() -> Outcome {
    let lab = Lab::builder().build()?;
    for (family, reverse) in [(Family::V4, false), (Family::V6, true)] {
        let what = traffic::Iperf3 {
            bytes: 20 << 20,
            reverse,
            bits_per_second: 0,
            limit: Duration::from_secs(30),
        };
        let outcome = traffic::iperf3(&lab.client, &lab.pod, family, what)?;
        assert!(
            outcome.sent >= 20 << 20 && outcome.received > 1 << 20,
            "{outcome:?}"
        );
    }
    Ok(())
}
