//! podspan in a real cluster: what the tests on kind have in common.
//!
//! Comes in: a cluster whose nodes have, or can pull, the images of [`images`]. Goes out: objects made
//! from the repository's manifests, requests made by a load client, and what podspan and the sensors
//! report about them.
//!
//! | file | what |
//! |-|-|
//! | `objects.rs` | reading objects, and waiting for a state |
//! | `manifests.rs` | the repository's kustomizations with the images of a test |
//! | `scenario.rs` | a namespace that is deleted at the end |
//! | `load.rs` | a bounded load of HTTP requests, and how many failed |
//! | `received.rs` | the numbers in the log of `podspan-sensor` |
//! | `capture.rs` | what tshark finds in a sensor's capture |
//! | `quota.rs` | a container's CPU time and throttling, read on its node |
//! | `times.rs` | when containers started and ended, read on their node |
//!
//! Invariant: a scenario changes nothing outside its namespace, apart from what a test does to a node
//! and undoes.

#![forbid(unsafe_code)]

mod capture;
mod error;
pub mod images;
mod load;
mod manifests;
pub mod objects;
mod quota;
mod received;
pub mod scenario;
mod times;

pub use capture::{Findings, Http, Segment, TCP_COPIES, arrivals, segments};
pub use error::{Error, Result};
pub use images::Images;
pub use load::{Load, Report};
pub use manifests::Manifests;
pub use quota::Quota;
pub use received::Received;
pub use scenario::Scenario;
pub use testbed::Totals;
pub use times::{Exits, Times};
