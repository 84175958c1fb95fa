//! The table of settings in `docs/injection.md` is the program's.

use std::fs;
use std::path::Path;

#[test]
fn the_document_has_the_table_of_settings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/injection.md");
    let document = fs::read_to_string(path).unwrap();
    let table = webhook::PROGRAM.markdown();
    assert!(
        document.contains(&table),
        "replace the table under Settings by the output of \
         `cargo run -p webhook -- --settings-markdown`:\n{table}"
    );
}
