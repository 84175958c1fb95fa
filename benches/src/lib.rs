//! What podspan costs, measured in the lab.
//!
//! Each measurement runs the real `podspan` binary ([`Agent`]) and the program that it is compared
//! with, in turn, and reports medians: ratios are about the same on other machines, absolute times are
//! not. The program of this package prints them as a [`Table`]; the demo uses the same measurements. With
//! the feature `report`, results go to JSON and SVG files; with `cluster`, they are measured in a cluster, and with `matrix`,
//! podspan is compared with other mirrors under many loads.

#![forbid(unsafe_code)]

mod agent;
#[cfg(feature = "matrix")]
pub mod application;
pub mod bare;
#[cfg(feature = "report")]
pub mod chart;
pub mod checksums;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod cpu_per_packet;
mod cycles;
mod error;
#[cfg(feature = "report")]
pub mod files;
#[cfg(feature = "seal")]
pub mod handshakes;
#[cfg(feature = "report")]
pub mod latency;
#[cfg(feature = "matrix")]
pub mod matrix;
#[cfg(feature = "opening")]
pub mod opening;
#[cfg(any(feature = "cluster", feature = "matrix"))]
pub mod options;
mod random;
pub mod record;
pub mod ring;
#[cfg(feature = "seal")]
pub mod seal;
pub mod senders;
pub mod statistics;
mod table;
pub mod throttling;
mod totals_line;

pub use agent::Agent;
pub use error::{Error, Result};
pub use table::{Align, Table, grouped};
pub use totals_line::TotalsLine;
