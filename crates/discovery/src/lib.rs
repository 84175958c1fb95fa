//! Finds the addresses of the pods for `SENSOR=<name>`, and keeps them current by a watch on the API
//! server.
//!
//! In: [`Settings`] and where the API server is ([`ClientSource`]). Out: a [`SensorList`], the complete
//! list of usable sensors, each time it changes.
//!
//! ```text
//!   API server --events--> watch --Pod--> table --all pods--> select --list--> publish
//!                            |                                   |
//!                            +--error--> failure --> remedy      +--why a pod is not used--> log
//! ```
//!
//! The same loop watches podspan's own pod: [`watch_own_pod`] publishes its annotations
//! ([`OwnAnnotations`], `own_pod`). `annotations_file` reads them from a file of the kubelet instead.
//!
//! `select`, `failure`, `remedy` and `backoff` are pure and make every decision. `credentials` and
//! `address` keep secrets out of texts. `watch` and `source` do the network I/O. `table` and `journal`
//! hold the state between two events.
//!
//! `contact` tells who reports it whether the API server answers, and which failures there were.
//!
//! Invariants:
//! - A published list is complete. The next list of pods is collected separately, and replaces the
//!   old one when the API server has marked it as complete.
//! - Only an answer of the API server removes a sensor. A failure, a missing answer or a restart of
//!   the API server removes none.
//! - At most one list is published every 50 ms, however many events come.
//! - While the API server fails, it gets no more than one request a second on average.

#![forbid(unsafe_code)]

mod address;
mod annotations_file;
mod backoff;
mod contact;
mod credentials;
mod failure;
#[cfg(test)]
#[path = "../../settings/src/foreign_testing.rs"]
mod foreign_testing;
mod go_string;
mod journal;
mod own_pod;
mod pod;
mod remedy;
mod select;
mod source;
mod table;
mod types;
mod watch;

pub use annotations_file::follow_annotations_file;
pub use contact::{Contact, SharedContact};
pub use own_pod::{FILTER_ANNOTATION, MAX_ANNOTATION, MIRROR_ANNOTATION, OwnAnnotations};
pub use source::ClientSource;
pub use types::{
    Families, FoundSensor, OwnPod, OwnPodSettings, Scope, SensorList, Settings, Timing,
    TunnelSettings,
};
pub use watch::{watch, watch_own_pod};
