//! Datagrams to sensors: UDP sockets, `sendmmsg`, path MTU, and errors of the kernel and the network.
//!
//! In: a [`Batch`](mirror::Batch), whose heads and bodies are ranges, the block that contains the bodies,
//! and the table of sensors. Out: every datagram's outcome in the batch, and a [`Report`] for the control
//! side. In the order in which a datagram passes them:
//!
//! 1. `socket`: one socket for each source port, address family and kind of sensor, opened before the
//!    capabilities are dropped. It is never read: a filter drops what it receives. `peer`: it is connected
//!    if there is one sensor; else each message has the sensor's address. The sockets of tunnels are read by the
//!    control side, on duplicates: `answers` waits for it.
//! 2. `message`: ranges become iovecs, and one `sendmmsg` sends up to 16 messages. A message is a datagram,
//!    or, to a sensor that is a socket, a run of up to 64, which the kernel splits. The kernel reads the
//!    payload from the ring's memory.
//! 3. `policy`: the meaning of an error number, as a pure function; `delivery`: the reaction to it, tested
//!    with a scripted kernel; `refused_runs`: the sensors that get no runs for some time.
//! 4. `error_queue`: the ICMP errors, and `icmp`: their meaning for a sensor; `path`: the MTU of a path;
//!    `probe`: whether the host of a sensor answers.
//!
//! # What "sent" means
//! The kernel accepted the datagram: it had a route, passed netfilter's OUTPUT, and entered a queue of the
//! kernel. podspan cannot find out more at that time:
//!
//! - On a link, the sensor's Ethernet address may not be resolved yet. The kernel queues datagrams for it
//!   (`unres_qlen_bytes`, 208 KiB for each neighbour) and drops the oldest without an error when the queue
//!   is full. It reports `EHOSTUNREACH` only after three requests, about three seconds later, through the
//!   error queue. Until then, and again in the next three seconds, each datagram counts as *sent*.
//! - Behind a router, an ICMP message reports the same. Routers send only few of them.
//!
//! Such errors count in the [`Report`], by sensor, and drop no datagram: the send that fails with one is
//! for another datagram, which is tried again. A datagram is *dropped* only for an error of its own: no
//! route (`unreachable`), too long for the path (`path_mtu`), queues that stayed full (`queue_full`), or a
//! refusal such as netfilter's `EPERM` (`send_error`).
//!
//! # Invariants
//! - Every datagram of a batch has an outcome when [`Transmitter::send`] returns.
//! - The datagrams from one source port to one sensor are sent in the order of the batch: they have one
//!   socket, and a datagram that must be tried again is tried again before the next one.
//! - An outer packet is never fragmented: don't-fragment is set, and IPv6's own fragmentation is off.
//! - `send` waits at most [`WAIT_MAX`] in total, and allocates memory only if there are more datagrams or
//!   sensors than ever before.
//!
//! Sources: RFC 7348 section 4, RFC 6935 (zero checksum over IPv4 tunnels), and of the kernel
//! `net/ipv4/udp.c` (`__udp4_lib_err`), `net/ipv4/ip_output.c`, `net/ipv6/ip6_output.c` and
//! `net/core/skbuff.c` (`sock_dequeue_err_skb`).

mod answer_filter;
mod answers;
mod delivery;
mod destination;
mod division;
mod error_pause;
mod error_queue;
mod icmp;
mod message;
mod option;
mod path;
mod peer;
mod policy;
mod probe;
mod refused_runs;
mod report;
mod socket;
mod transmitter;

pub use answer_filter::receive_answers;
pub use answers::Answers;
pub use delivery::{SentMessages, WAIT_MAX};
pub use icmp::IcmpError;
pub use message::{Messages, Run};
pub use path::path_mtu;
pub use probe::{ProbeResult, Prober};
pub use report::{Report, SensorReport};
pub use socket::{DROP_EVERYTHING, OpenError, SocketConfig, without_checksums};
pub use transmitter::Transmitter;
