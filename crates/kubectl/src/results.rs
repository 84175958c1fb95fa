//! What happened to each object, and the version, for people and for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use inject::yaml::Change;
use serde_json::{Value, json};

/// The form of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A JSON document
    Json,
    /// A YAML document
    Yaml,
    /// A table
    Table,
}

/// An object and what happened to it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) kind: String,
    /// Empty for an object without one.
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
}

/// What happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Injected,
    Updated,
    Removed,
    Unchanged,
    /// Its kind has no pods.
    NoPods,
    /// It is in a namespace in which nothing is injected.
    LeftOut,
    /// It could not be changed, for this reason.
    Failed(String),
}

impl From<Change> for Outcome {
    fn from(change: Change) -> Self {
        match change {
            Change::Injected => Self::Injected,
            Change::Updated => Self::Updated,
            Change::Removed => Self::Removed,
            Change::Unchanged => Self::Unchanged,
            Change::NotAWorkload => Self::NoPods,
        }
    }
}

impl Outcome {
    /// For programs.
    fn word(&self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Updated => "updated",
            Self::Removed => "removed",
            Self::Unchanged => "unchanged",
            Self::NoPods => "no-pods",
            Self::LeftOut => "left-out",
            Self::Failed(_) => "failed",
        }
    }

    /// For people; `None` for what they do not want to know.
    fn sentence(&self) -> Option<&'static str> {
        Some(match self {
            Self::Injected => "podspan is injected",
            Self::Updated => "podspan is updated",
            Self::Removed => "podspan is removed",
            Self::Unchanged => "unchanged",
            Self::LeftOut => "left out: the cluster depends on its namespace",
            // The error at the end names it.
            Self::NoPods | Self::Failed(_) => return None,
        })
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Failed(reason) => Some(reason),
            _ => None,
        }
    }
}

/// One line for each object with pods.
pub(crate) fn write_lines(rows: &[Row], is_dry: bool, out: &mut dyn Write) -> io::Result<()> {
    let suffix = if is_dry { " (dry run)" } else { "" };
    for row in rows {
        let Some(sentence) = row.outcome.sentence() else {
            continue;
        };
        let place = if row.namespace.is_empty() { "" } else { "/" };
        let name = [&row.namespace, place, &row.name].concat();
        let name = if row.name.is_empty() {
            "(without a name)"
        } else {
            &name
        };
        let (kind, name) = (row.kind.to_lowercase(), name.escape_debug());
        writeln!(out, "{kind} {name}: {sentence}{suffix}")?;
    }
    if rows.iter().all(|row| row.outcome == Outcome::NoPods) {
        writeln!(out, "no object with pods: nothing is changed")?;
    }
    Ok(())
}

/// All objects in a form for programs, or in a table.
pub(crate) fn write(
    rows: &[Row],
    format: Format,
    is_dry: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    write_document(
        format,
        out,
        || document(rows, is_dry),
        |out| write_table(rows, out),
    )
}

/// The program's version, and the image that it injects.
pub(crate) fn write_version(format: Format, out: &mut dyn Write) -> io::Result<()> {
    let (version, image) = (env!("CARGO_PKG_VERSION"), inject::IMAGE);
    write_document(
        format,
        out,
        || json!({"version": version, "image": image}),
        |out| writeln!(out, "kubectl-podspan {version}\ninjects {image}"),
    )
}

fn write_document(
    format: Format,
    out: &mut dyn Write,
    document: impl FnOnce() -> Value,
    table: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    match format {
        Format::Json => writeln!(out, "{:#}", document()),
        Format::Yaml => {
            let text = crate::yaml::text(&document()).map_err(io::Error::other)?;
            out.write_all(text.as_bytes())
        }
        Format::Table => table(out),
    }
}

fn document(rows: &[Row], is_dry: bool) -> Value {
    let objects = rows.iter().map(|row| {
        let mut object = json!({
            "kind": row.kind, "namespace": row.namespace, "name": row.name,
            "change": row.outcome.word(),
        });
        if let Some(reason) = row.outcome.reason() {
            object["reason"] = reason.into();
        }
        object
    });
    json!({"dryRun": is_dry, "objects": objects.collect::<Vec<_>>()})
}

fn write_table(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    let head = ["KIND", "NAMESPACE", "NAME", "CHANGE", "REASON"].map(str::to_owned);
    let lines = rows.iter().map(|row| {
        let reason = row.outcome.reason().unwrap_or_default();
        let cells = [
            &row.kind,
            &row.namespace,
            &row.name,
            row.outcome.word(),
            reason,
        ];
        cells.map(|cell| cell.escape_debug().to_string())
    });
    let lines: Vec<_> = std::iter::once(head).chain(lines).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths = [0, 1, 2, 3].map(|column| width(column).unwrap_or_default());
    for [kind, namespace, name, change, reason] in &lines {
        let [a, b, c, d] = widths;
        let line = format!("{kind:<a$}   {namespace:<b$}   {name:<c$}   {change:<d$}   {reason}");
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Format, Outcome, Row, write};

    #[test]
    fn the_columns_of_a_table_are_aligned() {
        let row = |name: &str, outcome| Row {
            kind: "Deployment".to_owned(),
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            outcome,
        };
        let rows = [
            row("a", Outcome::Injected),
            row("web-1", Outcome::Failed("no".to_owned())),
        ];
        let mut table = Vec::new();
        write(&rows, Format::Table, false, &mut table).unwrap();
        let expected = "\
KIND         NAMESPACE   NAME    CHANGE     REASON
Deployment   shop        a       injected
Deployment   shop        web-1   failed     no
";
        assert_eq!(String::from_utf8(table).unwrap(), expected);
    }
}
