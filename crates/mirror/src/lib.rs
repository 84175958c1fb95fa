//! From a frame to datagrams: every decision about bytes, and no I/O.
//!
//! In: a [`Frame`] of the ring and the table of sensors. Out: datagrams in a [`Batch`], or a reason
//! in the [`Totals`]. In the order in which a frame passes them:
//!
//! 1. `own`: ICMP messages about podspan's datagrams are not mirrored, except for some, and not the datagrams
//!    of a podspan that was killed;
//! 2. [`spread`]: the hashes of the frame's hosts and flow ([`hash`], `quoted`), which select the sensor
//!    ([`table`]) and the source port;
//! 3. `link`: restores addresses and VLAN tag;
//! 4. one of three: `whole`, unchanged except for a completed checksum; `segment`, split as the kernel or
//!    the network card does it, or into smaller segments if the path to the sensor is narrower;
//!    `fragment`, valid inner IP fragments if a packet cannot be split in another way;
//! 5. [`batch`]: heads are written here, bodies are ranges of the block; the datagrams of sensors with a tunnel
//!    are sealed ([`Seal`]); [`plan`]: the order in which datagrams are sent; [`runs`]: which of them are sent in one message; [`totals`]: the counters of the
//!    outcomes.
//!
//! Payload is read once, for a checksum, or not at all; a second time only if a segment with a wrong
//! checksum is split. It is never copied here.

#![forbid(unsafe_code)]

pub mod batch;
mod fragment;
pub mod hash;
mod link;
pub mod own;
pub mod plan;
mod quoted;
pub mod runs;
mod segment;
pub mod spread;
pub mod table;
pub mod totals;
mod whole;

use wire::ip::{self, Network, Packet, Version};
use wire::{ChecksumState, Frame, Gso, GsoKind, Vni, vxlan};

pub use batch::{Batch, Datagram, Outcome, Parts, PortIndex, Seal};
pub use runs::TrailerBound;
pub use spread::{SourcePorts, Spread};
pub use table::{Sensor, SensorIndex, SensorTable};
pub use totals::{DropReason, Totals};

use batch::{FrameDatagrams, Route};
use fragment::Identifications;
use link::Prefix;
use own::{OwnTraffic, TokenBucket};
use segment::Segmented;
use spread::Spreader;

/// The settings of a [`Mirror`].
#[derive(Debug, Clone)]
pub struct MirrorConfig {
    /// The network identifier in the VXLAN header.
    pub vni: Vni,
    /// Which traffic goes to one sensor.
    pub spread: Spread,
    /// How many source ports the datagrams are sent from.
    pub source_ports: SourcePorts,
    /// The UDP source ports of all datagrams that podspan sends.
    pub own_ports: Vec<u16>,
    /// The UDP source port of those that are sealed, and of the handshakes; none without a tunnel.
    pub tunnel_port: Option<u16>,
    /// The identification of the first packet that podspan fragments. Random, so that two podspans that
    /// mirror the same hosts to one sensor do not start at the same number.
    pub first_identification: u32,
}

/// Turns frames into datagrams.
#[derive(Debug)]
pub struct Mirror {
    own: OwnTraffic,
    spreader: Spreader,
    source_ports: SourcePorts,
    identifications: Identifications,
}

/// A frame, and the values that all of its datagrams share.
#[derive(Clone, Copy)]
struct Inner<'f> {
    frame: &'f Frame<'f>,
    /// Bytes before the frame's bytes, or in place of the first of them.
    prefix: Prefix,
    /// The length of the longest inner frame that fits the path to the sensor.
    room: usize,
}

impl Inner<'_> {
    /// The length of the copy if the frame is sent whole.
    fn length(&self) -> usize {
        self.prefix.grown(self.frame.bytes.len())
    }
}

impl Mirror {
    /// A mirror without history.
    #[must_use]
    pub fn new(config: MirrorConfig) -> Self {
        Self {
            own: OwnTraffic {
                vxlan: vxlan::header(config.vni),
                ports: config.own_ports,
                tunnel_port: config.tunnel_port,
                sample: TokenBucket::default(),
                first_frame: None,
            },
            spreader: Spreader::new(config.spread),
            source_ports: config.source_ports,
            identifications: Identifications::from(config.first_identification),
        }
    }

    /// Adds the datagrams of a frame to the batch, or counts the reason for the drop.
    pub fn push(
        &mut self,
        frame: &Frame<'_>,
        table: &SensorTable,
        batch: &mut Batch,
        totals: &mut Totals,
    ) {
        if let Err(reason) = self.try_push(frame, table, batch) {
            totals.drop_frame(reason);
        }
    }

    fn try_push(
        &mut self,
        frame: &Frame<'_>,
        table: &SensorTable,
        batch: &mut Batch,
    ) -> Result<(), DropReason> {
        if frame.wire_len as usize > frame.bytes.len() {
            return Err(DropReason::Truncated);
        }
        let network = ip::locate(frame);
        if self.own.rejects(frame, &network) {
            return Err(DropReason::OwnError);
        }
        let (index, sensor, port) = self
            .destination(frame, &network, table)
            .ok_or(DropReason::NoSensor)?;
        let route = Route {
            sensor: index,
            lane: sensor.lane(),
            port,
        };
        let inner = Inner {
            frame,
            prefix: Prefix::of(frame),
            room: sensor.inner_frame_max(),
        };

        // Of IPv6, the payload length zero can also mean that the header does not give it (RFC 2675).
        let shows_end = matches!(network, Network::Ip(packet) if packet.end > packet.transport);
        let mut out = batch.frame(self.own.vxlan, route, frame, shows_end);
        match self.convert(&inner, &network, &mut out) {
            Ok(()) => {
                out.commit();
                Ok(())
            }
            Err(reason) => {
                out.abandon();
                Err(reason)
            }
        }
    }

    /// The sensor and the source port for a frame; `None` if there is no sensor.
    ///
    /// With one sensor and one port there is no choice, so the frame is not hashed. Then fragments are not
    /// remembered either: if a second sensor comes between two fragments of a packet, each of them can get one.
    fn destination<'t>(
        &mut self,
        frame: &Frame<'_>,
        network: &Network,
        table: &'t SensorTable,
    ) -> Option<(SensorIndex, &'t Sensor, PortIndex)> {
        if let ([only], SourcePorts::ONE) = (table.sensors(), self.source_ports) {
            return Some((SensorIndex(0), only, PortIndex(0)));
        }
        let hashes = self.spreader.hashes(frame, network);
        let (index, sensor) = table.sensor_of(hashes.flow)?;
        Some((index, sensor, self.source_ports.port_of(hashes.hosts)))
    }

    /// Chooses how to convert a frame, and converts it.
    fn convert(
        &mut self,
        inner: &Inner<'_>,
        network: &Network,
        out: &mut FrameDatagrams<'_>,
    ) -> Result<(), DropReason> {
        let fits = inner.length() <= inner.room;
        let all = inner.frame.bytes.len();
        match (inner.frame.offload.gso, network) {
            (None, _) if fits => whole::whole(inner, network, all, out),
            (None, Network::Ip(packet)) => self.split_to_fit(inner, packet, out)?,
            (None, Network::Other) => return Err(DropReason::Oversize),
            (None, Network::Malformed) => return Err(DropReason::Malformed),
            (Some(gso), _) => match self.split_by_offload(inner, network, gso, out) {
                // A sensor should see a malformed frame: it may be an attack on parsers.
                Err(DropReason::Malformed) if fits => {
                    out.restart();
                    out.hides_end();
                    whole::whole(inner, network, all, out);
                }
                result => result?,
            },
        }
        Ok(())
    }

    /// Splits a frame that was whole on the wire and is too long for the tunnel.
    fn split_to_fit(
        &mut self,
        inner: &Inner<'_>,
        packet: &Packet,
        out: &mut FrameDatagrams<'_>,
    ) -> Result<(), DropReason> {
        if inner.prefix.grown(packet.end) <= inner.room {
            // Only the Ethernet trailer does not fit, and it is not part of the packet.
            whole::whole(inner, &Network::Ip(*packet), packet.end, out);
            return Ok(());
        }
        let authenticated = matches!(packet.version, Version::V6(chain) if chain.authenticated);
        if packet.protocol == ip::TCP && !packet.is_fragment && !authenticated {
            match segment::tcp(inner, packet, None, out) {
                Segmented::Done => return Ok(()),
                Segmented::Dropped(reason) => return Err(reason),
                Segmented::NotAsTcp => {}
            }
        }
        fragment::packet(inner, packet, &mut self.identifications, out)
    }

    /// Splits a frame that represents several.
    fn split_by_offload(
        &mut self,
        inner: &Inner<'_>,
        network: &Network,
        gso: Gso,
        out: &mut FrameDatagrams<'_>,
    ) -> Result<(), DropReason> {
        let packet = match network {
            Network::Ip(packet) => packet,
            // The kernel also splits frames after an MPLS or PPPoE header, and reports the size only.
            Network::Other if gso.size > 0 => return Err(DropReason::UnknownOffload),
            _ => return Err(DropReason::Malformed),
        };
        if is_tunnel(inner.frame, packet) {
            return Err(DropReason::UnknownOffload);
        }
        let is = |protocol| packet.protocol == protocol && !packet.is_fragment && gso.size > 0;
        match (gso.kind, packet.version) {
            (GsoKind::TcpV4, Version::V4) | (GsoKind::TcpV6, Version::V6(_)) if is(ip::TCP) => {
                match segment::tcp(inner, packet, Some(gso.size), out) {
                    Segmented::Done => Ok(()),
                    Segmented::Dropped(reason) => Err(reason),
                    Segmented::NotAsTcp => Err(DropReason::Malformed),
                }
            }
            (GsoKind::UdpL4, _) if is(ip::UDP) => {
                segment::udp(inner, packet, gso.size, &mut self.identifications, out)
            }
            _ => Err(DropReason::Malformed),
        }
    }
}

/// Whether the offload is for headers after the outermost transport header: the payload of another
/// tunnel. The kernel reports where its checksum starts, but not which headers are before it.
fn is_tunnel(frame: &Frame<'_>, packet: &Packet) -> bool {
    match frame.offload.checksum {
        ChecksumState::Unfinished(unfinished) => {
            usize::from(unfinished.start) > packet.transport
                && usize::from(unfinished.start) < packet.end
        }
        _ => matches!(packet.protocol, ip::IP_IN_IP | ip::IPV6_IN_IP | ip::GRE),
    }
}

#[cfg(test)]
mod tests;
