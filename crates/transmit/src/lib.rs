//! Datagrams to sensors: UDP sockets, `sendmmsg`, path MTU, and what the kernel answers.
//!
//! In: a [`Batch`](mirror::Batch), whose heads and bodies are ranges, the block that the bodies lie
//! in, and the table of sensors. Out: every datagram's outcome, noted in the batch, and a [`Report`]
//! of what the control side should know. In the order in which a datagram passes them:
//!
//! 1. `socket`: one socket for each source port and address family, opened before the capabilities
//!    are dropped. It never reads: a filter drops whatever comes in. `peer`: it is connected where
//!    there is one sensor; else the sensor's address goes with each datagram.
//! 2. `message`: ranges become iovecs, and up to 256 datagrams leave by one `sendmmsg`. The
//!    payload's bytes are read by the kernel where the ring put them.
//! 3. `policy`: what an error number means, as a pure function; `delivery`: what is done about it,
//!    against a kernel that tests can script.
//! 4. `error_queue`: what the network answered, and `icmp`: what that says of a sensor; `path`: the
//!    MTU of a path; `probe`: whether the host of a sensor answers.
//!
//! # What "sent" means
//! The kernel took the datagram: it had a route, passed netfilter's OUTPUT, and stood in a queue of
//! the kernel. No more can be known:
//!
//! - On a link, the sensor's Ethernet address may not be known yet. The kernel queues datagrams
//!   for it (`unres_qlen_bytes`, 208 KiB for each neighbour), throws the oldest away without a word
//!   when that is full, and reports `EHOSTUNREACH` only after three requests, about three seconds
//!   later, by the error queue. Until then, and again in the next three seconds, each is *sent*.
//! - Behind a router, the same is said by an ICMP message, of which routers send few.
//!
//! Such answers count in the [`Report`], by sensor, and drop no datagram: the one at which the
//! answer surfaces is another one, and is tried again. A datagram is *dropped* only for an error of
//! its own: no route (`unreachable`), too long for the path (`path_mtu`), queues that stayed full
//! (`queue_full`), or a refusal such as netfilter's `EPERM` (`send_error`).
//!
//! # Invariants
//! - Every datagram of a batch has an outcome when [`Transmitter::send`] returns.
//! - What leaves by one source port to one sensor leaves in the order of the batch: it has one socket,
//!   and a datagram that must be tried again is tried again before the next one.
//! - An outer packet is never fragmented: don't-fragment is set, and IPv6's own fragmentation off.
//! - `send` waits at most [`WAIT_MAX`] in all, and allocates only when there are more datagrams or
//!   sensors than ever before.
//!
//! Sources: RFC 7348 section 4, RFC 6935 (zero checksum over IPv4 tunnels), and of the kernel
//! `net/ipv4/udp.c` (`__udp4_lib_err`), `net/ipv4/ip_output.c`, `net/ipv6/ip6_output.c` and
//! `net/core/skbuff.c` (`sock_dequeue_err_skb`).

mod delivery;
mod destination;
mod error_queue;
mod icmp;
mod message;
mod option;
mod path;
mod peer;
mod policy;
mod probe;
mod report;
mod socket;
mod transmitter;

pub use delivery::WAIT_MAX;
pub use icmp::IcmpError;
pub use path::path_mtu;
pub use probe::{ProbeResult, Prober};
pub use report::{Report, SensorReport};
pub use socket::{OpenError, SocketConfig};
pub use transmitter::Transmitter;
