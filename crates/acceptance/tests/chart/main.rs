//! The chart, judged by helm: it finds no fault, and renders the objects of the kustomizations.
//!
//! helm and kubectl run without a cluster. Both are built from their Go modules if they are not there.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by a panic; clippy.toml's exception is for #[test] only"
)]

mod equal;
mod files;
mod programs;
mod values;
