//! The lab of the matrix: one receiver that counts, and interfaces of the pod that take frames.
//!
//! The receiver is a UDP socket that nobody reads, with a receive buffer that is filled before anything is
//! measured. So the kernel drops each further datagram at the socket and counts it (`drops` of
//! `/proc/net/udp`): the count is exact, a message of several datagrams is split before it, and no reader takes
//! CPU time from what is measured. The ends of tunnels have sockets of their own beside it, which are not counted. Neighbours are permanent and IPv6 is off, so the kernels send nothing
//! of their own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use socket2::SockRef;
use testbed::traffic::RawSocket;
use testbed::{Host, Lab, Link, Namespace, veth};

use super::counter::{Counter, Place};
use super::error::{Error, Result};
use super::plan::{INTERFACES, SENSORS};
use crate::bare;

/// Where copies go.
pub const PORT: u16 = 4789;
/// The last number of the first of many sensors' addresses.
const FIRST: u8 = 100;
/// Datagrams of the smallest size that fill any receive buffer of the smallest size.
const FILL: usize = 64;

/// The lab, with everything for all cases.
#[derive(Debug)]
pub struct Stand {
    /// Client, pod and sensor.
    pub lab: Lab,
    /// The cables of the pod's further interfaces.
    _cables: Vec<(Link, Link)>,
    sockets: Vec<RawSocket>,
    receiver: UdpSocket,
}

impl Stand {
    /// Builds it.
    ///
    /// # Errors
    /// [`Error`]: of the lab, or of `ip`.
    pub fn new() -> Result<Self> {
        let lab = Lab::builder().build()?;
        for host in [&lab.client, &lab.pod, &lab.sensor] {
            for of in ["all", "default"] {
                let name = format!("ipv6/conf/{of}/disable_ipv6");
                host.namespace.set_sysctl(&name, "1")?;
            }
        }
        let mut sockets = vec![RawSocket::open_with_headers(&lab.pod.port)?];
        let mut cables = Vec::new();
        for number in 1..INTERFACES.into_iter().max().unwrap_or(1) {
            let names = (format!("net{number}"), format!("podnet{number}"));
            let cable = veth((&lab.pod.namespace, &names.0), (&lab.node, &names.1))?;
            for end in [&cable.0, &cable.1] {
                end.disable_ipv6()?;
                end.up()?;
            }
            sockets.push(RawSocket::open_with_headers(&cable.1)?);
            cables.push(cable);
        }
        let receiver = bare::open(&lab.sensor.namespace, (Ipv4Addr::UNSPECIFIED, PORT).into())?;
        let stand = Self {
            lab,
            _cables: cables,
            sockets,
            receiver,
        };
        stand.add_sensors()?;
        stand.fill()?;
        Ok(stand)
    }

    fn add_sensors(&self) -> Result<()> {
        let (pod, sensor) = (&self.lab.pod, &self.lab.sensor);
        for address in self.addresses(SENSORS.into_iter().max().unwrap_or(1)) {
            if address != sensor.ipv4 {
                sensor.eth0.add_address(address.into(), 24)?;
            }
            set_neighbour(pod, address, sensor)?;
        }
        set_neighbour(pod, sensor.ipv4, sensor)?;
        set_neighbour(sensor, pod.ipv4, pod)
    }

    /// Fills the receiver's buffer.
    fn fill(&self) -> Result<()> {
        let failed = |doing| move |source| crate::Error::Io { doing, source };
        let doing = "filling the receiver's buffer";
        let smallest = SockRef::from(&self.receiver).set_recv_buffer_size(1);
        smallest.map_err(failed("setting a receive buffer"))?;
        let local = bare::open(&self.lab.sensor.namespace, (Ipv4Addr::LOCALHOST, 0).into())?;
        for _ in 0..FILL {
            local
                .send_to(&[0], (Ipv4Addr::LOCALHOST, PORT))
                .map_err(failed(doing))?;
        }
        let counter = self.counter(Place::Receiver);
        let before = counter.arrived()?;
        local
            .send_to(&[0], (Ipv4Addr::LOCALHOST, PORT))
            .map_err(failed(doing))?;
        if counter.arrived()? == before {
            return Err(Error::NoCounters);
        }
        Ok(())
    }

    /// The addresses of so many sensors.
    fn addresses(&self, sensors: u8) -> Vec<Ipv4Addr> {
        if sensors == 1 {
            return vec![self.lab.sensor.ipv4];
        }
        let [a, b, c, _] = self.lab.sensor.ipv4.octets();
        (0..sensors)
            .map(|number| Ipv4Addr::new(a, b, c, FIRST + number))
            .collect()
    }

    /// The setting `SENSOR` for so many sensors.
    #[must_use]
    pub fn sensor_setting(&self, sensors: u8) -> String {
        let addresses = self.addresses(sensors);
        let texts = addresses.iter().map(|address| format!("{address}:{PORT}"));
        texts.collect::<Vec<_>>().join(",")
    }

    /// The one sensor of a bare sender.
    #[must_use]
    pub fn sensor(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.lab.sensor.ipv4), PORT)
    }

    /// The setting `INTERFACE` for so many interfaces.
    #[must_use]
    pub fn interface_setting(interfaces: u8) -> String {
        let names = (0..interfaces).map(|number| match number {
            0 => "eth0".to_owned(),
            number => format!("net{number}"),
        });
        names.collect::<Vec<_>>().join(",")
    }

    /// Where the frames of so many interfaces are sent.
    #[must_use]
    pub fn sockets(&self, interfaces: u8) -> &[RawSocket] {
        let count = usize::from(interfaces).min(self.sockets.len());
        self.sockets.get(..count).unwrap_or_default()
    }

    /// What counts the datagrams at the sensor.
    #[must_use]
    pub const fn counter(&self, place: Place) -> Counter<'_> {
        Counter::new(&self.lab.sensor.namespace, place)
    }
}

/// Runs a program of the system in a namespace.
///
/// # Errors
/// [`Error::Program`].
pub fn run(namespace: &Namespace, words: &str) -> Result<()> {
    let failed = |text: String| Error::Program {
        command: words.to_owned(),
        text,
    };
    let mut words_of = words.split_whitespace();
    let program = words_of.next().unwrap_or_default();
    let mut command: Command = namespace.command(program);
    let output = command
        .args(words_of)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Lets the kernel of `host` know the Ethernet address of one of `other`'s addresses for ever.
fn set_neighbour(host: &Host, address: Ipv4Addr, other: &Host) -> Result<()> {
    let mac = other.mac.map(|byte| format!("{byte:02x}")).join(":");
    let words = format!("ip neigh replace {address} lladdr {mac} dev eth0 nud permanent");
    run(&host.namespace, &words)
}

/// CPU time of the kernel's threads that take over the network's work when there is much of it.
#[must_use]
pub fn softirq_threads() -> Duration {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let times = processes.filter_map(|process| {
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        name.starts_with("ksoftirqd/").then_some(())?;
        let text = fs::read_to_string(process.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}
