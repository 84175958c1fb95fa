//! `SENSOR=<name>` to the addresses of its pods, kept right by a watch on the API server.
//!
//! Comes in: [`Settings`] and where the API server is ([`ClientSource`]). Goes out: a [`View`], the
//! complete list of usable sensors, each time it changes.
//!
//! ```text
//!   API server --events--> watch --Pod--> table --all pods--> select --View--> publish
//!                            |                                   |
//!                            +--error--> failure --> remedy      +--why a pod is not used--> log
//! ```
//!
//! `select`, `failure`, `remedy` and `backoff` are pure and hold every decision; `credentials` and
//! `address` keep secrets out of texts. `watch` and `source` are the edge to the network, and `table`
//! and `journal` the state between two events.
//!
//! Invariants:
//! - A view is complete. A new list is gathered beside the old one and replaces it when the API
//!   server has said that it is whole.
//! - Only an answer of the API server takes a sensor away: no failure, silence or restart does.
//! - At most one view every 50 ms, however many events come.
//! - While the API server fails it is asked no more than once a second on average.

#![forbid(unsafe_code)]

mod address;
mod backoff;
mod credentials;
mod failure;
mod foreign;
mod go_string;
mod journal;
mod pod;
mod remedy;
mod select;
mod settings;
mod source;
mod table;
mod watch;

pub use foreign::Foreign;
pub use settings::{Families, FoundSensor, Identity, Pace, Receiver, Scope, Settings, View};
pub use source::ClientSource;
pub use watch::watch;
