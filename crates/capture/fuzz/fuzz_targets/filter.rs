//! Any text as an expression for `FILTER`, and any frame.
//!
//! Run with `cargo +nightly fuzz run filter` in `crates/capture`. The bytes up to the first zero are the
//! expression, the others a frame. A text is refused with a place in it, or gives a program that Linux
//! accepts, and the program ends.

#![no_main]

use filter::{Link, Metadata, Options, check, compile, run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let (text, frame) = bytes.split_at(end);
    let text = String::from_utf8_lossy(text);
    for options in [
        Options::live(Link::Ethernet),
        Options::live(Link::Ip),
        Options::file(Link::Ethernet),
    ] {
        match compile(&text, options) {
            Ok(program) => {
                check(program.instructions()).expect("Linux accepts it");
                let _ = run(program.instructions(), frame, &Metadata::default());
            }
            Err(error) => assert!(text[error.offset..].starts_with(&error.word)),
        }
    }
});
