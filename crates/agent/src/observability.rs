//! The table of the metrics in `docs/observability.md`.
//!
//! In: the declarations of the metrics. Out: the table; a test compares it with the one in the document. The rest of the
//! document is not here, because it would be a part of the program.

use crate::status::CATALOG;

/// The table.
#[must_use]
pub fn markdown() -> String {
    CATALOG.markdown()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_table_of_all_metrics() {
        let document = include_str!("../../../docs/observability.md");
        assert!(
            document.contains(&format!("\n\n{}\n", markdown())),
            "the table of docs/observability.md is not current; this prints it:\n\
             cargo run -p agent -- --metrics-markdown"
        );
    }
}
