//! `docs/encryption.md` is what the program prints.

use receive::{PROGRAM, metrics_markdown};

#[test]
fn the_table_of_the_settings_is_what_the_program_prints() {
    let document = include_str!("../../../docs/encryption.md");
    assert!(
        document.contains(&PROGRAM.markdown()),
        "the table of docs/encryption.md is old: cargo run -p receive -- --settings-markdown"
    );
}

#[test]
fn the_table_of_the_metrics_has_what_the_program_serves() {
    let document = include_str!("../../../docs/encryption.md");
    let table = metrics_markdown();
    assert!(
        document.contains(&table),
        "the table of the metrics in docs/encryption.md is old; now it is:\n{table}"
    );
}
