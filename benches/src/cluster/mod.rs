//! What the sidecar costs in a cluster: the application and the load as Jobs, with and without it in turns.
//!
//! ```text
//!   arguments --> plan --> run --> results --> summary --> tables, charts, JSON
//!                           |         (plain data)  (pure)
//!         nodes, manifests, client, usage
//! ```
//!
//! | file | what |
//! |-|-|
//! | `arguments.rs`, `plan.rs` | what to measure, and the limits of it |
//! | `nodes.rs`, `manifests.rs` | where, and the objects |
//! | `client.rs`, `usage.rs` | what the load client reports, and what the sidecar uses |
//! | `run.rs` | the rounds |
//! | `results.rs` | the numbers of each round, as they are written to the file |
//! | `summary.rs`, `print.rs` | medians and ratios; tables and charts |
//!
//! The figures depend on the cluster; the ratios say what the sidecar changes there.

mod arguments;
mod client;
mod error;
mod manifests;
mod nodes;
mod plan;
mod print;
mod results;
mod run;
mod summary;
#[cfg(test)]
mod tests;
mod usage;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::files;

pub use arguments::{Arguments, SensorForm};
pub use error::{Error, Result};
pub use plan::Plan;
pub use print::{charts, tables};
pub use results::{Case, Client, Environment, FORMAT, Node, Offered, Results, Round, Sidecar};
pub use summary::{Compared, Summary, Usage, summarize};

/// The program: reads the command line, makes the run, prints its tables and writes its files.
///
/// # Errors
/// When there is no cluster, or the run fails; [`Error::Interrupted`] after Ctrl-C.
pub fn command(words: impl IntoIterator<Item = OsString>) -> Result<()> {
    let arguments = Arguments::read(words)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| Error::unexpected("registering a signal", error.to_string()))?;
    }
    let cluster = match &arguments.kubeconfig {
        Some(path) => testbed::kind::given(path, arguments.context.as_deref())?,
        None => testbed::kind::adopt(&arguments.name)?,
    };
    let setup = run::Setup {
        cluster: &cluster,
        namespace: &arguments.namespace,
        images: arguments.images.clone(),
        sensor: arguments.sensor,
        stop: &stop,
        report: &|line| println!("{line}"),
    };
    let results = run::run(&setup, &arguments.plan)?;
    let (tables, files) = write(&results, &arguments.output)?;
    println!("\n{tables}");
    for file in files {
        println!("{}", file.display());
    }
    Ok(())
}

/// The file: what was measured, and the figures.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    results: &'a Results,
    summary: &'a [Summary],
}

/// Writes JSON and charts into `folder`, and returns the tables for the terminal and the files' paths.
///
/// # Errors
/// When a file cannot be written.
pub fn write(results: &Results, folder: &Path) -> Result<(String, Vec<PathBuf>)> {
    let summary = summarize(results);
    let document = Document {
        results,
        summary: &summary,
    };
    let files = files::write(folder, "cluster", &document, &charts(&summary))?;
    Ok((tables(results, &summary), files))
}
