//! A lab with podspan running in its pod, and the result when podspan has ended.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::thread;
use std::time::Duration;

use testbed::traffic::Family;
use testbed::{
    Capability, Decoded, Decoder, Filter, Frame, FrameRef, Host, Lab, Process, Sink, Sniffer,
};

use crate::metrics::Samples;
use crate::totals::Totals;

pub(crate) const VNI: u32 = 0x00ab_cdef;
pub(crate) const PORT: u16 = 4789;
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// A lab with a running podspan.
pub(crate) struct Scene<S> {
    pub(crate) lab: Lab,
    pub(crate) agent: Process,
    sensor: Sniffer<Decoded<S>>,
}

/// The result at the end.
pub(crate) struct Outcome<S> {
    pub(crate) totals: Totals,
    /// The frames that the sensor decoded, or what the sink made of them.
    pub(crate) inner: S,
}

/// The command that starts podspan in the pod with `NET_RAW` as its only capability.
pub(crate) fn podspan(lab: &Lab, environment: &[(&str, &str)]) -> Command {
    let program = env!("CARGO_BIN_EXE_podspan");
    let mut command = lab
        .pod
        .namespace
        .command_with_capabilities(program, &[Capability::CAP_NET_RAW]);
    command
        .env_clear()
        .env("VNI", format!("{VNI:#x}"))
        .env("LOG", "debug");
    command.envs(environment.iter().copied());
    command
}

/// The sensor's address of one family, as a value for `SENSOR`.
pub(crate) fn sensor_of(lab: &Lab, underlay: Family) -> String {
    SocketAddr::new(underlay.address(&lab.sensor), PORT).to_string()
}

/// Captures and keeps the frames that a sensor's host decodes, from now on.
pub(crate) fn decoded_at(host: &Host) -> Sniffer<Decoded<Vec<Frame>>> {
    let sink = Decoded {
        decoder: Decoder::new(VNI, PORT, 1500),
        sink: Vec::new(),
    };
    Sniffer::start(&host.namespace, "eth0", Filter::Incoming, sink).unwrap()
}

impl Scene<Vec<Frame>> {
    /// Starts podspan with the lab's sensor, and keeps the frames that arrive there.
    pub(crate) fn start(lab: Lab, underlay: Family) -> Self {
        let sensor = sensor_of(&lab, underlay);
        Self::start_with(lab, &[("SENSOR", &sensor)], Vec::new())
    }
}

impl<S: Sink> Scene<S> {
    /// Starts podspan with an environment, and passes the frames that arrive at the sensor to `sink`.
    pub(crate) fn start_with(lab: Lab, environment: &[(&str, &str)], sink: S) -> Self {
        let mtu = usize::try_from(lab.sensor.eth0.mtu().unwrap()).unwrap();
        let decoded = Decoded {
            decoder: Decoder::new(VNI, PORT, mtu),
            sink,
        };
        let sensor =
            Sniffer::start(&lab.sensor.namespace, "eth0", Filter::Incoming, decoded).unwrap();
        let mut agent = Process::spawn(podspan(&lab, environment)).unwrap();
        agent.wait_for_output("capturing (index", LIMIT).unwrap();
        Self { lab, agent, sensor }
    }

    /// Stops podspan with SIGTERM and returns the result; the lab stays. Before, the metrics must hold the equations of
    /// the accounting, and later no number is smaller.
    pub(crate) fn end(self) -> (Lab, Outcome<S>) {
        let scraped = Samples::settled(&self.lab.pod);
        self.agent.terminate().unwrap();
        let (lab, outcome) = self.ended();
        scraped.assert_at_most(&outcome.totals);
        (lab, outcome)
    }

    /// The result of a podspan that has got SIGTERM.
    pub(crate) fn ended(mut self) -> (Lab, Outcome<S>) {
        let status = self.agent.wait(LIMIT).unwrap();
        let log = self.agent.stderr();
        assert!(status.success(), "{status}:\n{log}");
        let totals = Totals::read(&log);
        // The last datagrams are still on their way through the bridge.
        thread::sleep(Duration::from_millis(100));
        let (Decoded { decoder, sink }, capture) = self.sensor.stop().unwrap();
        assert_eq!(capture.dropped, 0, "the sensor's sniffer kept up");
        assert!(decoder.anomalies().is_empty(), "{:?}", decoder.anomalies());
        if totals.get("datagrams_dropped") == 0 && self.lab.router.is_none() {
            assert_eq!(
                decoder.decoded(),
                totals.get("datagrams_sent"),
                "each datagram arrived"
            );
        }
        (
            self.lab,
            Outcome {
                totals,
                inner: sink,
            },
        )
    }
}

/// Counts the mirrored frames that podspan itself sent: there must be none.
pub(crate) fn own_frames(frames: &[Frame], pod: IpAddr, sensor: IpAddr) -> usize {
    let decodes = |frame: &FrameRef<'_>| {
        let packet = etherparse::SlicedPacket::from_ethernet(frame.bytes).ok()?;
        let (source, destination): (IpAddr, IpAddr) = match packet.net? {
            etherparse::NetSlice::Ipv4(ip) => (
                ip.header().source_addr().into(),
                ip.header().destination_addr().into(),
            ),
            etherparse::NetSlice::Ipv6(ip) => (
                ip.header().source_addr().into(),
                ip.header().destination_addr().into(),
            ),
            etherparse::NetSlice::Arp(_) => return None,
        };
        let udp = matches!(packet.transport, Some(etherparse::TransportSlice::Udp(_)));
        (udp && source == pod && destination == sensor).then_some(())
    };
    frames
        .iter()
        .filter(|frame| decodes(&frame.as_ref()).is_some())
        .count()
}
