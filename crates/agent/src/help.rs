//! The table as text: `--help` and `docs/configuration.md`.
//!
//! Both are generated from [`settings::TABLE`] and [`Exit`] only, so they always match the parsing; a test
//! compares the file on disk.

use std::fmt::{self, Write as _};

use settings::{Fallback, TABLE, Variable};

use crate::exit::Exit;

/// The longest line of `--help`, in columns.
const COLUMNS: usize = 80;

/// The output of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = write_help(&mut text);
    text
}

/// The text of `docs/configuration.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    // Writing to a `String` cannot fail.
    let _ = write_tables(&mut text);
    text
}

fn write_help(text: &mut String) -> fmt::Result {
    let version = env!("CARGO_PKG_VERSION");
    writeln!(
        text,
        "podspan {version}: mirrors a pod's traffic to a network sensor over VXLAN\n"
    )?;
    text.push_str(USAGE);
    for variable in TABLE {
        writeln!(
            text,
            "\n  {} ({})",
            variable.name,
            default_in_words(variable)
        )?;
        wrap(text, variable.text, "      ");
        wrap(text, &format!("Expected: {}.", variable.expected), "      ");
        wrap(
            text,
            &format!("Example: {}={}", variable.name, variable.example),
            "      ",
        );
    }
    text.push_str("\nExit codes:\n");
    for exit in Exit::ALL {
        writeln!(text, "  {:>3}  {}", exit.code(), exit.meaning())?;
    }
    Ok(())
}

fn write_tables(text: &mut String) -> fmt::Result {
    text.push_str("\n| variable | expected | default | meaning | example |\n|-|-|-|-|-|\n");
    for variable in TABLE {
        let Variable { name, example, .. } = variable;
        let default = match variable.fallback {
            Fallback::Value(value) => format!("`{value}`"),
            Fallback::Unset(meaning) => escaped(meaning),
            Fallback::Required => default_in_words(variable),
        };
        let (expected, meaning) = (escaped(variable.expected), escaped(variable.text));
        writeln!(
            text,
            "| `{name}` | {expected} | {default} | {meaning} | `{name}={example}` |"
        )?;
    }
    text.push_str("\n## Exit codes\n\n| code | meaning |\n|-|-|\n");
    for exit in Exit::ALL {
        writeln!(text, "| {} | {} |", exit.code(), exit.meaning())?;
    }
    Ok(())
}

const USAGE: &str = "\
Usage: SENSOR=zeek podspan [--help | --version | --check-config]

  --help          print this text
  --version       print name and version
  --check-config  print the settings in effect, or all errors in them

Usage: podspan filter 'EXPRESSION' [-d | -ddd | -r FILE]

  Checks an expression for FILTER.
  -d, -ddd        print its program as tcpdump does
  -r FILE         count the frames of a pcap or pcapng file that it keeps

Settings are environment variables:
";

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from crates/settings/src/table.rs. After a change there:
     cargo run -p agent -- --configuration-markdown > docs/configuration.md -->

podspan reads its settings from environment variables only. Only `SENSOR` must be set:

```yaml
env:
  - name: SENSOR
    value: zeek
```

- An empty variable counts as not set. Space around values and list entries is ignored. Words such as
  `info` can be in upper or lower case.
- All errors are reported at once, each with the variable, its value, what is expected and a valid
  example. The process then ends with exit code 64. With `ON_FAILURE=idle` it stays alive and logs the
  errors.
- `podspan --check-config` prints the settings in effect and their origin, and does not mirror anything.
- Variables that are not in this table are ignored, except `SNAPLEN` and `SAMPLE`: they are errors that
  say why podspan does without them ([filter.md](filter.md#snaplen-and-sample)).
";

fn default_in_words(variable: &Variable) -> String {
    match variable.fallback {
        Fallback::Required => "required".to_owned(),
        Fallback::Value(value) => format!("default {value}"),
        Fallback::Unset(meaning) => format!("default: {meaning}"),
    }
}

/// Escapes characters that are markup in a cell of a Markdown table.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('<', "&lt;")
        .replace('*', "\\*")
}

/// Appends `paragraph` to `text`, broken at spaces, each line with `indent` before it.
fn wrap(text: &mut String, paragraph: &str, indent: &str) {
    let mut column = 0;
    for word in paragraph.split(' ') {
        if column > 0 && column + 1 + word.len() > COLUMNS {
            text.push('\n');
            column = 0;
        }
        let before = if column == 0 { indent } else { " " };
        text.push_str(before);
        text.push_str(word);
        column += before.len() + word.len();
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_has_every_variable_and_fits_a_terminal() {
        let help = help();
        for variable in TABLE {
            assert!(
                help.contains(&format!("\n  {} (", variable.name)),
                "{}",
                variable.name
            );
        }
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn the_document_on_disk_is_generated_from_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let on_disk = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            on_disk == markdown(),
            "docs/configuration.md differs from the table. Update it, from the repository's root:\n  \
             cargo run -p agent -- --configuration-markdown > docs/configuration.md"
        );
    }
}
