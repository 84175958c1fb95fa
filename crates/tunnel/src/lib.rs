//! WireGuard around VXLAN datagrams: every decision and every byte of both ends, and no I/O.
//!
//! The protocol (Noise, sessions, replay window, AEAD) is that of [boringtun](boringtun::noise::Tunn),
//! used without its device. What stands around it is here. In the order in which a datagram passes it:
//!
//! - [`initiator`]: podspan's control side; handshakes, retries and rekeying with one sensor. Out comes a
//!   [`Sealer`] for the worker;
//! - [`sealer`]: the worker's side; one call seals one datagram: `inner`, the IP and UDP header around the
//!   VXLAN header and the frame, then boringtun;
//! - [`responder`]: the sensor's side; admission of initiations, sessions of any number of podspans, and the
//!   way back from a WireGuard datagram to the VXLAN header and the frame. Every datagram is opened or
//!   refused for one [`Refusal`].
//!
//! [`keys`] are types that show nothing secret, [`overhead`] is what remains of a path's MTU, and
//! [`protocol`] has the numbers of the protocol.
//!
//! Time is passed in wherever this crate decides. boringtun reads clocks of its own in three places: the
//! TAI64N timestamp of an initiation (the system's clock), the age of a cookie, which changes every 128 s,
//! and timers that are not used here ([`Tunn::update_timers`](boringtun::noise::Tunn::update_timers) is
//! never called).
//!
//! Source: "WireGuard: Next Generation Kernel Network Tunnel", revision of 2020-06-01, called "the paper"
//! here; `drivers/net/wireguard` of Linux and wireguard-go where it is silent.

#![forbid(unsafe_code)]

mod initiation;
pub mod initiator;
mod inner;
mod jitter;
pub mod overhead;
pub mod protocol;
pub mod refusal;
pub mod responder;
pub mod sealer;

pub use initiator::Initiator;
pub use inner::Inner;
pub use keys;
pub use keys::{InvalidKey, InvalidKeys, PresharedKey, PresharedKeys, PrivateKey, PublicKey};
pub use refusal::{Refusal, Refused};
pub use responder::Responder;
pub use sealer::Sealer;

#[cfg(test)]
mod tests;
