//! The standard topology.
//!
//! ```text
//!  client            pod              sensor          each in its own namespace, each with eth0
//!  10.77.0.1         10.77.0.2        10.77.0.3       /24
//!  fd77::1           fd77::2          fd77::3         /64
//!     |                |                |
//!  ===+================+================+=== br0      in the node's namespace, veth between
//! ```
//! With a routed hop, the sensor is behind a router on a link with a smaller MTU, and the router's
//! ICMP reports the path MTU to the pod:
//! ```text
//!  ===+================+====== br0 --- router --- sensor
//!                              10.77.0.254   10.78.0.254   10.78.0.3
//!                              fd77::fe      fd78::fe      fd78::3
//! ```
//! When [`LabBuilder::build`] returns, every host answers a ping from the pod in both families, so
//! no test starts before the bridge forwards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::error::Result;
use crate::features::Offload;
use crate::host::Host;
use crate::link::{Link, Vxlan, veth};
use crate::namespace::Namespace;
use crate::traffic::await_ping;

/// The longest time until the links forward.
const FORWARDING_LIMIT: Duration = Duration::from_secs(10);
const ROUTER_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 254), Ipv4Addr::new(10, 78, 0, 254)];
const ROUTER_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0xfe),
    Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 0xfe),
];

/// The lab; it is removed with all its namespaces when it is dropped.
#[derive(Debug)]
pub struct Lab {
    /// The namespace that holds the bridge, as the node of a cluster does.
    pub node: Namespace,
    /// The bridge, `br0`.
    pub bridge: Link,
    /// The pod's peer.
    pub client: Host,
    /// Where podspan runs.
    pub pod: Host,
    /// The receiver of the copies.
    pub sensor: Host,
    /// The router between bridge and sensor, if there is one.
    pub router: Option<Namespace>,
    /// The sensor's kernel vxlan devices, `vxlan0` over IPv4 and `vxlan6` over IPv6, if the
    /// builder adds them.
    pub vxlan: Option<(Link, Link)>,
    builder: LabBuilder,
}

/// The settings of a lab.
#[derive(Debug, Clone)]
pub struct LabBuilder {
    mtu: u32,
    client_mtu: Option<u32>,
    offloads: bool,
    routed_mtu: Option<u32>,
    vxlan: Option<(u32, u16)>,
}

impl Lab {
    /// A lab of MTU 1500 with the kernel's default offloads, no router and no vxlan device.
    #[must_use]
    pub fn builder() -> LabBuilder {
        LabBuilder {
            mtu: 1500,
            client_mtu: None,
            offloads: true,
            routed_mtu: None,
            vxlan: None,
        }
    }
}

impl LabBuilder {
    /// MTU of every link, in bytes.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// A smaller MTU between client and pod, so that their packets with the VXLAN headers fit the
    /// underlay. The client's `eth0` gets it, and the pod's route to the client.
    #[must_use]
    pub fn client_mtu(mut self, mtu: u32) -> Self {
        self.client_mtu = Some(mtu);
        self
    }

    /// `false` turns every offload of every link off ([`Offload::ALL`]), so that each frame is the same
    /// in the kernel and on a wire. `true` leaves the kernel's defaults.
    #[must_use]
    pub fn offloads(mut self, on: bool) -> Self {
        self.offloads = on;
        self
    }

    /// Puts the sensor behind a router whose far link has this MTU, in bytes.
    #[must_use]
    pub fn routed(mut self, mtu: u32) -> Self {
        self.routed_mtu = Some(mtu);
        self
    }

    /// Adds kernel vxlan devices for both families to the sensor.
    #[must_use]
    pub fn vxlan(mut self, vni: u32, port: u16) -> Self {
        self.vxlan = Some((vni, port));
        self
    }

    /// Builds it and waits until packets are forwarded.
    ///
    /// # Errors
    /// What the kernel refused, or [`Error::Timeout`](crate::Error::Timeout) where nothing is forwarded.
    pub fn build(&self) -> Result<Lab> {
        let node = Namespace::new()?;
        let bridge = node.add_bridge("br0")?;
        bridge.set_mtu(self.mtu)?;
        bridge.disable_ipv6()?;
        let client = self.host(&node, Some(&bridge), "client", 0, 1)?;
        let pod = self.host(&node, Some(&bridge), "pod", 0, 2)?;
        let (router, sensor) = match self.routed_mtu {
            None => (None, self.host(&node, Some(&bridge), "sensor", 0, 3)?),
            Some(mtu) => {
                let router = self.router(&node, &bridge)?;
                let sensor = self.routed_sensor(&router, &[&client, &pod], mtu)?;
                (Some(router), sensor)
            }
        };
        if let Some(mtu) = self.client_mtu {
            set_client_mtu(&client, &pod, mtu)?;
        }
        if !self.offloads {
            bridge.set_offloads(&Offload::ALL, false)?;
        }
        let vxlan = self
            .vxlan
            .map(|tunnel| vxlan_devices(&sensor, tunnel))
            .transpose()?;
        let lab = Lab {
            node,
            bridge,
            client,
            pod,
            sensor,
            router,
            vxlan,
            builder: self.clone(),
        };
        lab.await_forwarding()?;
        Ok(lab)
    }

    /// A namespace with `eth0`, on a port of `bridge` or, without one, on a link named `port` in
    /// `near`. `net` is 0 for the bridge's network and 1 for the one behind the router.
    fn host(
        &self,
        near: &Namespace,
        bridge: Option<&Link>,
        port: &str,
        net: u8,
        number: u8,
    ) -> Result<Host> {
        let namespace = Namespace::new()?;
        let (eth0, port) = veth((&namespace, "eth0"), (near, port))?;
        let mac = [2, 0, 0, 0, net, number];
        eth0.set_mac(mac)?;
        port.set_mac([2, 0, 0, 1, net, number])?;
        let ipv4 = Ipv4Addr::new(10, 77 + net, 0, number);
        let ipv6 = Ipv6Addr::new(0xfd77 + u16::from(net), 0, 0, 0, 0, 0, 0, number.into());
        if let Some(bridge) = bridge {
            port.disable_ipv6()?;
            port.set_bridge(bridge)?;
        }
        for link in [&eth0, &port] {
            link.set_mtu(self.mtu)?;
            if !self.offloads {
                link.set_offloads(&Offload::ALL, false)?;
            }
            link.up()?;
        }
        eth0.add_address(ipv4.into(), 24)?;
        eth0.add_address(ipv6.into(), 64)?;
        Ok(Host {
            namespace,
            eth0,
            port,
            ipv4,
            ipv6,
            mac,
        })
    }

    fn router(&self, node: &Namespace, bridge: &Link) -> Result<Namespace> {
        let router = self.host(node, Some(bridge), "router", 0, 254)?;
        router.namespace.set_forwarding(true)?;
        Ok(router.namespace)
    }

    fn routed_sensor(&self, router: &Namespace, others: &[&Host], mtu: u32) -> Result<Host> {
        let sensor = self.host(router, None, "far", 1, 3)?;
        for link in [&sensor.eth0, &sensor.port] {
            link.set_mtu(mtu)?;
        }
        sensor.port.add_address(ROUTER_V4[1].into(), 24)?;
        sensor.port.add_address(ROUTER_V6[1].into(), 64)?;
        let default_routes = |host: &Host, side: usize| {
            host.namespace
                .add_route((Ipv4Addr::UNSPECIFIED.into(), 0), ROUTER_V4[side].into())?;
            host.namespace
                .add_route((Ipv6Addr::UNSPECIFIED.into(), 0), ROUTER_V6[side].into())
        };
        default_routes(&sensor, 1)?;
        others.iter().try_for_each(|host| default_routes(host, 0))?;
        Ok(sensor)
    }
}

impl Lab {
    /// One more host on the bridge: a second sensor, or where an API server runs. Its addresses end
    /// in `number`, which is from 4 to 253, and each only once.
    ///
    /// # Errors
    /// What the kernel refused, or [`Error::Timeout`](crate::Error::Timeout) where the pod does not
    /// reach it.
    pub fn add_host(&self, number: u8) -> Result<Host> {
        let port = format!("host{number}");
        let host = self
            .builder
            .host(&self.node, Some(&self.bridge), &port, 0, number)?;
        for to in [IpAddr::from(host.ipv4), host.ipv6.into()] {
            await_ping(&self.pod.namespace, to, FORWARDING_LIMIT)?;
        }
        Ok(host)
    }

    /// Waits until the pod reaches every host in both families.
    fn await_forwarding(&self) -> Result<()> {
        [&self.client, &self.sensor]
            .into_iter()
            .flat_map(|host| [IpAddr::from(host.ipv4), host.ipv6.into()])
            .try_for_each(|to| await_ping(&self.pod.namespace, to, FORWARDING_LIMIT))
    }
}

fn set_client_mtu(client: &Host, pod: &Host, mtu: u32) -> Result<()> {
    client.eth0.set_mtu(mtu)?;
    pod.eth0.add_route_with_mtu(client.ipv4.into(), mtu)?;
    pod.eth0.add_route_with_mtu(client.ipv6.into(), mtu)
}

fn vxlan_devices(sensor: &Host, (vni, port): (u32, u16)) -> Result<(Link, Link)> {
    let device = |name: &str, local: IpAddr| {
        let device = sensor
            .namespace
            .add_vxlan(name, Vxlan { vni, port, local })?;
        device.disable_ipv6()?;
        Ok(device)
    };
    Ok((
        device("vxlan0", sensor.ipv4.into())?,
        device("vxlan6", sensor.ipv6.into())?,
    ))
}
