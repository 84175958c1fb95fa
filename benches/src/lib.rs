//! What podspan costs, measured in the lab.
//!
//! Each measurement runs the real `podspan` binary ([`Agent`]) beside what it is held against, in
//! turns, and reports medians: ratios carry over to other machines, absolute times do not. The
//! program of this package prints them as a [`Table`]; the demo takes the measurements from here.

#![forbid(unsafe_code)]

mod agent;
pub mod cpu_per_packet;
mod error;
mod table;
mod totals_line;

pub use agent::Agent;
pub use error::{Error, Result};
pub use table::{Align, Table, grouped};
pub use totals_line::TotalsLine;
