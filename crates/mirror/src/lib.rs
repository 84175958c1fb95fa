//! What becomes of a frame: every decision about bytes, and no I/O.
//!
//! In: a [`Frame`] of the ring and the table of sensors. Out: datagrams in a [`Batch`], or a reason
//! in the [`Totals`]. In the order in which a frame passes them:
//!
//! 1. `own`: an ICMP message about our own datagrams stays out;
//! 2. [`spread`]: the hashes of its hosts and its flow ([`hash`], `quoted`), from which sensor
//!    ([`table`]) and source port follow;
//! 3. `link`: addresses and VLAN tag put back;
//! 4. one of three ways: `whole`, as it is with its checksum finished; `segment`, cut as the kernel
//!    or the network card would have cut it, or finer where the path to the sensor is narrower;
//!    `fragment`, valid inner IP fragments where a packet cannot be cut otherwise;
//! 5. [`batch`]: heads written here, bodies as ranges of the block; [`plan`]: in which order they
//!    leave; [`totals`]: what became of them.
//!
//! Payload is read once, for a checksum, or not at all; it is never copied here.

#![forbid(unsafe_code)]

pub mod batch;
mod fragment;
pub mod hash;
mod link;
pub mod own;
pub mod plan;
mod quoted;
mod segment;
pub mod spread;
pub mod table;
pub mod totals;
mod whole;

use wire::ip::{self, Network, Packet, Version};
use wire::{ChecksumState, Frame, Gso, GsoKind, Vni, vxlan};

pub use batch::{Batch, Datagram, Outcome, PortIndex};
pub use spread::{SourcePorts, Spread};
pub use table::{Sensor, SensorIndex, SensorTable};
pub use totals::{DropReason, Totals};

use batch::{FrameDatagrams, Route};
use fragment::Identifications;
use link::Prefix;
use own::{OwnErrors, TokenBucket};
use segment::Segmented;
use spread::Spreader;

/// What a [`Mirror`] is made with.
#[derive(Debug, Clone)]
pub struct MirrorConfig {
    /// The network identifier in the VXLAN header.
    pub vni: Vni,
    /// What goes to one sensor.
    pub spread: Spread,
    /// How many source ports the datagrams leave by.
    pub source_ports: SourcePorts,
    /// The UDP ports that anything of ours leaves by.
    pub own_ports: Vec<u16>,
    /// The identification of the first packet that is fragmented here. Random, so that two podspans
    /// that mirror the same hosts to one sensor do not count from the same number.
    pub first_identification: u32,
}

/// Turns frames into datagrams.
#[derive(Debug)]
pub struct Mirror {
    own: OwnErrors,
    spreader: Spreader,
    source_ports: SourcePorts,
    identifications: Identifications,
}

/// A frame on its way, with what all of its datagrams share.
#[derive(Clone, Copy)]
struct Inner<'f> {
    frame: &'f Frame<'f>,
    /// What stands in front of the frame's bytes, or in place of the first of them.
    prefix: Prefix,
    /// The longest inner frame that reaches the sensor.
    room: usize,
}

impl Inner<'_> {
    /// The length of the frame as it was on the wire, had it not been cut.
    fn length(&self) -> usize {
        self.prefix.grown(self.frame.bytes.len())
    }
}

impl Mirror {
    /// A mirror that has seen no frame yet.
    #[must_use]
    pub fn new(config: MirrorConfig) -> Self {
        Self {
            own: OwnErrors {
                vxlan: vxlan::header(config.vni),
                ports: config.own_ports,
                sample: TokenBucket::default(),
            },
            spreader: Spreader::new(config.spread),
            source_ports: config.source_ports,
            identifications: Identifications::from(config.first_identification),
        }
    }

    /// Adds the datagrams of a frame to the batch, or counts why there are none.
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
        let hashes = self.spreader.hashes(frame, &network);
        let (index, sensor) = table.sensor_of(hashes.flow).ok_or(DropReason::NoSensor)?;
        let route = Route {
            sensor: index,
            port: self.source_ports.port_of(hashes.hosts),
        };
        let inner = Inner {
            frame,
            prefix: Prefix::of(frame),
            room: sensor.inner_frame_max(),
        };

        let mut out = batch.frame(self.own.vxlan, route, frame.at);
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

    /// Chooses the way of a frame.
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
                // Absurd, so a sensor shall see it: an attack on parsers may look like this.
                Err(DropReason::Malformed) if fits => {
                    out.restart();
                    whole::whole(inner, network, all, out);
                }
                result => result?,
            },
        }
        Ok(())
    }

    /// Cuts a frame that stood on the wire as it is, and that is too long for the tunnel.
    fn split_to_fit(
        &mut self,
        inner: &Inner<'_>,
        packet: &Packet,
        out: &mut FrameDatagrams<'_>,
    ) -> Result<(), DropReason> {
        if inner.prefix.grown(packet.end) <= inner.room {
            // What does not fit is an Ethernet trailer, which belongs to no packet.
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

    /// Cuts a frame that stands for several.
    fn split_by_offload(
        &mut self,
        inner: &Inner<'_>,
        network: &Network,
        gso: Gso,
        out: &mut FrameDatagrams<'_>,
    ) -> Result<(), DropReason> {
        let packet = match network {
            Network::Ip(packet) => packet,
            // MPLS or PPPoE, behind which the kernel cuts as well. Of what size, it says.
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

/// Whether what is to be cut lies deeper than the outermost transport header: another tunnel's
/// payload. The kernel tells where its checksum starts, but not what the headers before it are.
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
