//! Links, addresses and routes, by rtnetlink.
//!
//! Each call starts a thread in the namespace, with a current-thread runtime and one netlink socket,
//! and sends one request. This takes about half a millisecond and leaves no state. A link's index
//! is found once by its name, so a [`Link`] still means the same device after a rename.

use std::net::IpAddr;
use std::path::Path;

use futures_util::TryStreamExt;
use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use netlink_packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage, Stats64};
use netlink_packet_route::route::{RouteAttribute, RouteMetric, RouteScope};
use nix::errno::Errno;
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder,
};

use crate::error::{Error, Result};
use crate::namespace::Namespace;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// A link of a namespace.
#[derive(Debug, Clone)]
pub struct Link {
    namespace: Namespace,
    name: String,
    index: u32,
}

/// The settings of a kernel's vxlan device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan {
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// UDP port that it listens on.
    pub port: u16,
    /// Its own address; the family decides which datagrams it accepts.
    pub local: IpAddr,
}

/// A link's counters, as `ip -s link` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets refused as damaged.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets dropped on the way in.
    pub rx_dropped: u64,
    /// Packets dropped on the way out.
    pub tx_dropped: u64,
}

/// The largest frames that the stack builds or joins before they reach a link (BIG TCP), in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentationLimits {
    /// `gso_max_size` and `gro_max_size`: over IPv6. 65,536 is the kernel's default.
    pub ipv6: u32,
    /// `gso_ipv4_max_size` and `gro_ipv4_max_size`: over IPv4.
    pub ipv4: u32,
}

/// Makes a veth pair with its ends in two namespaces (or in one), both down.
///
/// # Errors
/// [`Error::Netlink`], for example where a name is in use.
pub fn veth(a: (&Namespace, &str), b: (&Namespace, &str)) -> Result<(Link, Link)> {
    let peer_namespace = b.0.raw_fd();
    let doing = format!("making the veth pair {} and {}", a.1, b.1);
    a.0.netlink(&doing, async |netlink| {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(b.1)
            .setns_by_fd(peer_namespace)
            .build();
        let pair = LinkVeth::new(a.1, b.1).set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
        netlink.link().add(pair.build()).execute().await
    })?;
    Ok((a.0.link(a.1)?, b.0.link(b.1)?))
}

impl Namespace {
    /// The link of this name.
    ///
    /// # Errors
    /// [`Error::NoSuchLink`], or [`Error::Netlink`] where the kernel does not answer.
    pub fn link(&self, name: &str) -> Result<Link> {
        let index = self
            .run(|| nix::net::if_::if_nametoindex(name))
            .map_err(|errno| {
                if errno == Errno::ENODEV {
                    Error::NoSuchLink {
                        name: name.to_owned(),
                    }
                } else {
                    Error::system(format!("finding the link {name}"), errno)
                }
            })?;
        Ok(Link {
            namespace: self.clone(),
            name: name.to_owned(),
            index,
        })
    }

    /// Makes a bridge, up, that floods multicast as a plain switch does.
    ///
    /// Where the kernel has `br_netfilter`, it is turned off in this namespace: it drops IP packets
    /// with damaged headers and removes Ethernet trailers.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn add_bridge(&self, name: &str) -> Result<Link> {
        for family in ["arp", "ip", "ip6"] {
            let sysctl = format!("bridge/bridge-nf-call-{family}tables");
            if self.run(|| Path::new("/proc/sys/net").join(&sysctl).exists()) {
                self.set_sysctl(&sysctl, "0")?;
            }
        }
        self.netlink(&format!("making the bridge {name}"), async |netlink| {
            let bridge = LinkBridge::new(name).mcast_snooping(false).up();
            netlink.link().add(bridge.build()).execute().await
        })?;
        self.link(name)
    }

    /// Makes a kernel vxlan device, up, that only receives (no MAC learning).
    ///
    /// # Errors
    /// [`Error::Netlink`], for example where another device has the port and the VNI.
    pub fn add_vxlan(&self, name: &str, vxlan: Vxlan) -> Result<Link> {
        self.netlink(
            &format!("making the vxlan device {name}"),
            async |netlink| {
                let device = LinkVxlan::new(name, vxlan.vni)
                    .port(vxlan.port)
                    .learning(false)
                    .up();
                let device = match vxlan.local {
                    IpAddr::V4(local) => device.local(local),
                    IpAddr::V6(local) => device.local6(local).udp_zero_csum6_rx(false),
                };
                netlink.link().add(device.build()).execute().await
            },
        )?;
        self.link(name)
    }

    /// Adds a route to `destination` (an address and its prefix length; `0.0.0.0/0` or `::/0` is
    /// the default route) by way of `gateway`.
    ///
    /// # Errors
    /// [`Error::Netlink`], for example where the gateway is on no link.
    pub fn add_route(&self, destination: (IpAddr, u8), gateway: IpAddr) -> Result<()> {
        let doing = format!("adding a route to {}/{}", destination.0, destination.1);
        let refused = |reason: &dyn ToString| Error::Netlink {
            doing: doing.clone(),
            reason: reason.to_string(),
        };
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination.0, destination.1)
            .and_then(|route| route.gateway(gateway))
            .map_err(|error| refused(&error))?
            .build();
        self.netlink(&doing, async |netlink| {
            netlink.route().add(route).execute().await
        })
    }

    /// Does `work` with a netlink socket of this namespace.
    fn netlink<T: Send>(
        &self,
        doing: &str,
        work: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error> + Send,
    ) -> Result<T> {
        self.run(|| {
            let failed = |source| Error::system(doing, source);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()
                .map_err(failed)?;
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
                tokio::spawn(connection);
                work(handle).await.map_err(|error| Error::Netlink {
                    doing: doing.to_owned(),
                    reason: error.to_string(),
                })
            })
        })
    }
}

impl Link {
    /// The link's name when it was found, or after the last [`Link::rename`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kernel's number of the link.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The namespace that the link is in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Brings the link up.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn up(&self) -> Result<()> {
        self.change("bringing up", LinkMessageBuilder::up)
    }

    /// Brings the link down. IPv6 addresses and all routes over it are lost.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn down(&self) -> Result<()> {
        self.change("bringing down", LinkMessageBuilder::down)
    }

    /// Sets the largest packet, in bytes without the Ethernet header.
    ///
    /// # Errors
    /// [`Error::Netlink`] where the driver has other limits.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        self.change("setting the MTU of", |link| link.mtu(mtu))
    }

    /// Sets the Ethernet address.
    ///
    /// # Errors
    /// [`Error::Netlink`], for example for a multicast address.
    pub fn set_mac(&self, mac: Mac) -> Result<()> {
        self.change("setting the Ethernet address of", |link| {
            link.address(mac.to_vec())
        })
    }

    /// Makes the link a port of `bridge`, which is in the same namespace.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn set_bridge(&self, bridge: &Link) -> Result<()> {
        self.change("making a bridge's port of", |link| {
            link.controller(bridge.index)
        })
    }

    /// Allows frames beyond 64 KiB inside the stack (BIG TCP), or forbids them again.
    ///
    /// # Errors
    /// [`Error::Netlink`] above the driver's limit (veth: 524,280 bytes).
    pub fn set_segmentation_limits(&self, limits: SegmentationLimits) -> Result<()> {
        self.change("setting the segmentation limits of", |link| {
            [
                LinkAttribute::GsoMaxSize(limits.ipv6),
                LinkAttribute::GroMaxSize(limits.ipv6),
                LinkAttribute::GsoIpv4MaxSize(limits.ipv4),
                LinkAttribute::GroIpv4MaxSize(limits.ipv4),
            ]
            .into_iter()
            .fold(link, LinkMessageBuilder::append_extra_attribute)
        })
    }

    /// Gives the link another name.
    ///
    /// # Errors
    /// [`Error::Netlink`] where the name is in use.
    pub fn rename(&mut self, name: &str) -> Result<()> {
        self.change("renaming", |link| link.name(name))?;
        name.clone_into(&mut self.name);
        Ok(())
    }

    /// Deletes the link, and with a veth its peer.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn delete(self) -> Result<()> {
        let index = self.index;
        self.namespace
            .netlink(&self.doing("deleting"), async |netlink| {
                netlink.link().del(index).execute().await
            })
    }

    /// Adds an address; an IPv6 one is usable at once (`nodad`).
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn add_address(&self, address: IpAddr, prefix: u8) -> Result<()> {
        let index = self.index;
        self.namespace
            .netlink(&self.doing("adding an address to"), async |netlink| {
                let mut request = netlink.address().add(index, address, prefix);
                if address.is_ipv6() {
                    let flags = AddressAttribute::Flags(AddressFlags::Nodad);
                    request.message_mut().attributes.push(flags);
                }
                request.execute().await
            })
    }

    /// Adds a route to the one neighbour `address` with its own MTU, in bytes.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn add_route_with_mtu(&self, address: IpAddr, mtu: u32) -> Result<()> {
        let doing = self.doing("adding a route over");
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        let mut route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(address, prefix)
            .map_err(|error| Error::Netlink {
                doing: doing.clone(),
                reason: error.to_string(),
            })?
            .output_interface(self.index)
            .scope(RouteScope::Link)
            .build();
        route
            .attributes
            .push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
        self.namespace.netlink(&doing, async |netlink| {
            netlink.route().add(route).execute().await
        })
    }

    /// Removes an address.
    ///
    /// # Errors
    /// [`Error::Netlink`] where the link does not have it.
    pub fn remove_address(&self, address: IpAddr, prefix: u8) -> Result<()> {
        let index = self.index;
        self.namespace
            .netlink(&self.doing("removing an address from"), async |netlink| {
                // The request that adds an address has the message that removes it.
                let message = netlink
                    .address()
                    .add(index, address, prefix)
                    .message_mut()
                    .clone();
                netlink.address().del(message).execute().await
            })
    }

    /// The link's counters.
    ///
    /// # Errors
    /// [`Error::Netlink`], [`Error::NoSuchLink`] where it is gone.
    pub fn statistics(&self) -> Result<Statistics> {
        self.attribute(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(Statistics::from(stats)),
            _ => None,
        })
    }

    /// The largest packet in bytes.
    ///
    /// # Errors
    /// As [`Link::statistics`].
    pub fn mtu(&self) -> Result<u32> {
        self.attribute(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        })
    }

    /// The Ethernet address.
    ///
    /// # Errors
    /// As [`Link::statistics`].
    pub fn mac(&self) -> Result<Mac> {
        self.attribute(|attribute| match attribute {
            LinkAttribute::Address(address) => Mac::try_from(address.as_slice()).ok(),
            _ => None,
        })
    }

    /// Turns IPv6 off on this link, so that it sends nothing by default (router solicitations,
    /// multicast reports): for tests that count frames.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn disable_ipv6(&self) -> Result<()> {
        self.namespace
            .set_sysctl(&format!("ipv6/conf/{}/disable_ipv6", self.name), "1")
    }

    fn attribute<T: Send>(&self, pick: impl Fn(&LinkAttribute) -> Option<T> + Send) -> Result<T> {
        let index = self.index;
        let answer = self
            .namespace
            .netlink(&self.doing("reading"), async |netlink| {
                netlink
                    .link()
                    .get()
                    .match_index(index)
                    .execute()
                    .try_next()
                    .await
            })?;
        answer
            .iter()
            .flat_map(|message: &LinkMessage| &message.attributes)
            .find_map(pick)
            .ok_or_else(|| Error::NoSuchLink {
                name: self.name.clone(),
            })
    }

    fn change(
        &self,
        doing: &str,
        how: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec> + Send,
    ) -> Result<()> {
        let index = self.index;
        self.namespace.netlink(&self.doing(doing), async |netlink| {
            let message = how(LinkUnspec::new_with_index(index)).build();
            netlink.link().change(message).execute().await
        })
    }

    fn doing(&self, doing: &str) -> String {
        format!("{doing} the link {}", self.name)
    }
}

impl From<&Stats64> for Statistics {
    fn from(stats: &Stats64) -> Self {
        Self {
            rx_packets: stats.rx_packets,
            tx_packets: stats.tx_packets,
            rx_bytes: stats.rx_bytes,
            tx_bytes: stats.tx_bytes,
            rx_errors: stats.rx_errors,
            tx_errors: stats.tx_errors,
            rx_dropped: stats.rx_dropped,
            tx_dropped: stats.tx_dropped,
        }
    }
}
