//! Metrics and health of a process, by HTTP.
//!
//! In: the declarations of a program's metrics, and a value of what is known at the time of a request. Out: the text of
//! `/metrics` and the table of the documents from one declaration ([`Catalog`]); and a small HTTP server with bounds
//! ([`http`]), to which each program gives its own pages.

#![forbid(unsafe_code)]

mod catalog;
pub mod http;
mod markdown;
mod text;

pub use catalog::{Catalog, Histogram, Kind, Labelled, Metric, Number, Samples};
