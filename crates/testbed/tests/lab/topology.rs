//! Namespaces and links: they exist, can be changed, and are removed.

use std::net::UdpSocket;
use std::time::Duration;

use libtest_mimic::Failed;
use testbed::traffic::{self, Family, await_ping, ping};
use testbed::verify::Verifier;
use testbed::{
    Filter, Frame, Lab, Link, Namespace, Offload, Process, SegmentationLimits, Sniffer, veth,
};

use crate::receivers::discover_path_mtu;
use crate::{Outcome, TIMEOUT};

pub(crate) fn hosts_reach_each_other() -> Outcome {
    let lab = Lab::builder().mtu(1500).build()?;
    for size in [64, 1000, 8000] {
        for family in Family::BOTH {
            ping(
                &lab.client.namespace,
                family.address(&lab.pod),
                size,
                TIMEOUT,
            )?;
        }
    }
    assert_eq!(lab.pod.eth0.mac()?, lab.pod.mac);
    assert_eq!(lab.pod.eth0.mtu()?, 1500);
    assert!(lab.pod.eth0.statistics()?.rx_packets > 0);
    Ok(())
}

/// The longest frame that the client's eth0 sent during a bulk transfer.
fn longest_sent(lab: &Lab) -> Result<usize, Failed> {
    let sniffer = Sniffer::to_memory(&lab.client.namespace, "eth0", Filter::Outgoing)?;
    traffic::tcp_bulk(&lab.client, &lab.pod, Family::V4, 4 << 20)?;
    let (frames, totals) = sniffer.stop()?;
    assert_eq!(totals.dropped, 0);
    Ok(frames
        .iter()
        .map(|frame| frame.bytes.len())
        .max()
        .unwrap_or_default())
}

pub(crate) fn segmentation_follows_the_switches() -> Outcome {
    let lab = Lab::builder().build()?;
    assert!(
        longest_sent(&lab)? > 1514,
        "no large frame with the offloads on"
    );
    lab.client
        .eth0
        .set_offloads(&[Offload::Tso, Offload::Gso], false)?;
    assert!(!lab.client.eth0.features()?["tx-tcp-segmentation"].on);
    assert_eq!(longest_sent(&lab)?, 1514);
    let plain = Lab::builder().offloads(false).build()?;
    assert_eq!(longest_sent(&plain)?, 1514);
    let sniffer = Sniffer::to_memory(&plain.client.namespace, "eth0", Filter::Outgoing)?;
    traffic::tcp_bulk(&plain.client, &plain.pod, Family::V6, 1 << 20)?;
    let (frames, _) = sniffer.stop()?;
    let mut verifier = Verifier::new();
    assert!(
        frames
            .iter()
            .all(|frame| verifier.verify(&frame.bytes).is_right())
    );
    Ok(())
}

pub(crate) fn big_tcp_limits_are_applied() -> Outcome {
    let lab = Lab::builder().build()?;
    let limits = SegmentationLimits {
        ipv6: 185_000,
        ipv4: 185_000,
    };
    for link in [
        &lab.client.eth0,
        &lab.client.port,
        &lab.pod.eth0,
        &lab.pod.port,
        &lab.bridge,
    ] {
        link.set_segmentation_limits(limits)?;
    }
    traffic::tcp_bulk(&lab.client, &lab.pod, Family::V6, 4 << 20)?;
    let sniffer = Sniffer::to_memory(&lab.client.namespace, "eth0", Filter::Outgoing)?;
    traffic::tcp_bulk(&lab.client, &lab.pod, Family::V6, 24 << 20)?;
    let (frames, totals) = sniffer.stop()?;
    assert_eq!(totals.dropped, 0);
    let longest = frames
        .iter()
        .map(|frame| frame.bytes.len())
        .max()
        .unwrap_or_default();
    assert!(longest > 70_000, "the longest frame has {longest} bytes");
    Ok(())
}

pub(crate) fn routed_hop_reports_the_path_mtu() -> Outcome {
    let lab = Lab::builder().routed(1400).build()?;
    let socket = lab.pod.namespace.run(|| UdpSocket::bind("0.0.0.0:0"))?;
    socket.connect((lab.sensor.ipv4, 4789))?;
    discover_path_mtu(&socket);
    socket.send(&[0; 1450])?;
    let deadline = std::time::Instant::now() + TIMEOUT;
    loop {
        match socket.send(&[0; 1450]) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => break,
            Ok(_) | Err(_) => assert!(std::time::Instant::now() < deadline, "never EMSGSIZE"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(path_mtu(&socket), 1400);
    // The router answers the first large one with the path MTU.
    let sensor = lab.sensor.ipv6.into();
    let _ = ping(&lab.pod.namespace, sensor, 4000, Duration::from_millis(200));
    ping(&lab.pod.namespace, sensor, 4000, TIMEOUT)?;
    Ok(())
}

fn path_mtu(socket: &UdpSocket) -> libc::c_int {
    let (mut mtu, mut length): (libc::c_int, libc::socklen_t) = (0, 4);
    // SAFETY: the kernel writes the four bytes of `mtu`.
    let answer = unsafe {
        libc::getsockopt(
            std::os::fd::AsRawFd::as_raw_fd(socket),
            libc::IPPROTO_IP,
            libc::IP_MTU,
            (&raw mut mtu).cast(),
            &raw mut length,
        )
    };
    assert_eq!(answer, 0);
    mtu
}

pub(crate) fn narrow_client_keeps_to_its_mtu() -> Outcome {
    let lab = Lab::builder()
        .mtu(9000)
        .client_mtu(1500)
        .offloads(false)
        .build()?;
    let sniffer = Sniffer::to_memory(&lab.pod.namespace, "eth0", Filter::All)?;
    for family in Family::BOTH {
        traffic::tcp_requests(&lab.client, &lab.pod, family, &[(100_000, 100_000)])?;
        traffic::udp_datagrams(&lab.client, &lab.pod, family, &[8000])?;
    }
    ping(&lab.pod.namespace, lab.sensor.ipv4.into(), 8500, TIMEOUT)?;
    let (frames, _) = sniffer.stop()?;
    let longest = |client: bool| {
        let with_client = |frame: &&Frame| {
            [0, 6]
                .iter()
                .any(|at| frame.bytes[*at..*at + 6] == lab.client.mac)
                == client
        };
        frames
            .iter()
            .filter(with_client)
            .map(|frame| frame.bytes.len())
            .max()
    };
    assert_eq!(longest(true), Some(1514));
    assert_eq!(longest(false), Some(14 + 20 + 8 + 8500));
    Ok(())
}

pub(crate) fn namespaces_die_with_their_value() -> Outcome {
    let (near, far) = (Namespace::new()?, Namespace::new()?);
    veth((&near, "eth0"), (&far, "eth0"))?;
    near.link("eth0")?;
    drop(far);
    let deadline = std::time::Instant::now() + TIMEOUT;
    while near.link("eth0").is_ok() {
        assert!(
            std::time::Instant::now() < deadline,
            "the peer of a removed namespace stays"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

pub(crate) fn panics_leave_the_namespace() -> Outcome {
    let namespace = Namespace::new()?;
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        namespace.run(|| std::panic::resume_unwind(Box::new(7_u32)));
    }));
    assert_eq!(
        outcome
            .err()
            .and_then(|payload| payload.downcast::<u32>().ok()),
        Some(Box::new(7))
    );
    assert_eq!(namespace.run(|| 8), 8);
    Ok(())
}

pub(crate) fn links_change_and_return() -> Outcome {
    let lab = Lab::builder().build()?;
    let mut eth0: Link = lab.pod.eth0.clone();
    eth0.rename("net1")?;
    assert!(lab.pod.namespace.link("eth0").is_err());
    ping(&lab.client.namespace, lab.pod.ipv4.into(), 64, TIMEOUT)?;
    eth0.rename("eth0")?;
    eth0.down()?;
    let lost = ping(
        &lab.client.namespace,
        lab.pod.ipv4.into(),
        64,
        Duration::from_millis(100),
    );
    assert!(lost.is_err());
    let index = eth0.index();
    eth0.delete()?;
    assert!(
        lab.node.link("pod").is_err(),
        "the peer of a deleted link stays"
    );
    let (eth0, port) = veth((&lab.pod.namespace, "eth0"), (&lab.node, "pod"))?;
    assert_ne!(eth0.index(), index);
    eth0.set_mac(lab.pod.mac)?;
    port.set_bridge(&lab.bridge)?;
    port.up()?;
    eth0.up()?;
    eth0.add_address(lab.pod.ipv4.into(), 24)?;
    await_ping(&lab.client.namespace, lab.pod.ipv4.into(), TIMEOUT)?;
    eth0.remove_address(lab.pod.ipv4.into(), 24)?;
    Ok(())
}

pub(crate) fn missing_things_are_named() -> Outcome {
    let namespace = Namespace::new()?;
    let error = namespace
        .link("eth7")
        .err()
        .ok_or("a link that is not there")?
        .to_string();
    assert!(error.contains("eth7"), "{error}");
    let error = Process::spawn(namespace.command("no-such-program"))
        .err()
        .ok_or("it started")?;
    assert!(error.to_string().contains("no-such-program"), "{error}");
    Ok(())
}
