//! The chart, judged by helm: it finds no fault, and renders the objects of the kustomizations.
//!
//! helm and kubectl run without a cluster. Both are built from their Go modules if they are not there.

mod equal;
mod files;
mod programs;
mod values;
