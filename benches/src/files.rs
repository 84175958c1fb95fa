//! Results in files: one folder, JSON for programs and SVG for people.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::chart::{self, Chart};

/// Why results could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or its folder.
    #[error("writing {}: {source}; --output names another folder", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A chart.
    #[error(transparent)]
    Chart(#[from] chart::Error),
}

/// Writes `results` as `NAME.json` and each chart as `NAME-CHART.svg` into `folder`, which is made, and
/// returns the paths.
///
/// # Errors
/// When a file cannot be written, or a chart not be drawn.
pub fn write(
    folder: &Path,
    name: &str,
    results: &impl Serialize,
    charts: &[(&str, Chart)],
) -> Result<Vec<PathBuf>, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let json = folder.join(format!("{name}.json"));
    let mut text = serde_json::to_string_pretty(results)
        .map_err(io::Error::from)
        .map_err(failed(&json))?;
    text.push('\n');
    fs::write(&json, text).map_err(failed(&json))?;
    let mut files = vec![json];
    files.extend(write_charts(folder, name, charts)?);
    Ok(files)
}

/// Writes each chart as `NAME-CHART.svg` into `folder`, and returns the paths.
///
/// # Errors
/// As [`write()`].
pub fn write_charts(
    folder: &Path,
    name: &str,
    charts: &[(&str, Chart)],
) -> Result<Vec<PathBuf>, Error> {
    let write = |(chart, drawing): &(&str, Chart)| {
        let path = folder.join(format!("{name}-{chart}.svg"));
        let text = drawing.svg()?;
        match fs::write(&path, text) {
            Ok(()) => Ok(path),
            Err(source) => Err(Error::File { path, source }),
        }
    };
    charts.iter().map(write).collect()
}
