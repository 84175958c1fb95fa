//! `docs/encryption.md` is what the program prints.

use receive::PROGRAM;

#[test]
fn the_table_of_the_settings_is_what_the_program_prints() {
    let document = include_str!("../../../docs/encryption.md");
    assert!(
        document.contains(&PROGRAM.markdown()),
        "the table of docs/encryption.md is old: cargo run -p receive -- --settings-markdown"
    );
}
