//! A text that podspan did not write, as one printable, short part of a log line.
//!
//! In: names, phases, annotations and messages of the API server and of pods, values of a kubeconfig
//! or of the environment, and error texts of a library. Out, by `Display` or in quotes by `Debug`: at
//! most 300 characters, without a character that ends a line, moves the cursor, changes the direction
//! of the text, or is invisible. Such a character is written as Rust writes it, `\n` or `\u{202e}`.
//!
//! The escapes of the log are not enough: `tracing-subscriber` does not escape line breaks in a
//! message, and escapes nothing in a field with `%`. JSON does not escape U+2028 and bidirectional
//! overrides.
//!
//! Invariant: an escaped text is not escaped again, so a text can pass more than once.
//!
//! Source: Unicode Standard Annex 44, `General_Category`, through [`char::escape_debug`]: it escapes
//! Cc, Cf, Cs, Co, Cn, Zl, Zp, Zs except the space, and `Grapheme_Extend`.

use std::fmt::{self, Write as _};

/// The most characters of a text that are written. The longest names of Kubernetes have 253.
const MAX_CHARACTERS: usize = 300;

/// The end of a text that was truncated.
const TRUNCATED: &str = "...";

/// A text that podspan did not write, as part of one line: without quotes by `Display`, with quotes
/// by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Foreign<'t>(pub &'t str);

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.write(f, is_printable)?;
        f.write_str(end)
    }
}

impl fmt::Debug for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |character| is_printable(character) && !matches!(character, '"' | '\\');
        f.write_char('"')?;
        let end = self.write(f, plain)?;
        f.write_char('"')?;
        f.write_str(end)
    }
}

impl Foreign<'_> {
    /// Writes characters that are `plain` unchanged and escapes the others, up to the maximum. Returns
    /// the end of the text: [`TRUNCATED`], or nothing if the text is complete.
    fn write(
        self,
        f: &mut fmt::Formatter<'_>,
        plain: impl Fn(char) -> bool,
    ) -> Result<&'static str, fmt::Error> {
        let mut left = MAX_CHARACTERS;
        for character in self.0.chars() {
            let written = if plain(character) {
                character.to_string()
            } else {
                escaped(character)
            };
            match left.checked_sub(written.chars().count()) {
                Some(rest) => left = rest,
                None => return Ok(TRUNCATED),
            }
            f.write_str(&written)?;
        }
        Ok("")
    }
}

/// Whether this character is visible and has no other effect.
#[must_use]
pub fn is_printable(character: char) -> bool {
    match character {
        // `escape_debug` escapes them, but they are visible.
        '"' | '\'' | '\\' => true,
        // Letters and a symbol that are invisible: Hangul fillers, an empty Braille cell.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}' => false,
        character => character.escape_debug().len() == 1,
    }
}

/// Whether a text is written in full.
#[must_use]
pub fn is_short(text: &str) -> bool {
    text.chars().nth(MAX_CHARACTERS).is_none()
}

fn escaped(character: char) -> String {
    let escaped = character.escape_debug();
    // A character that `is_printable` refuses, but Rust does not escape.
    if escaped.len() == 1 {
        return character.escape_unicode().to_string();
    }
    escaped.to_string()
}

#[cfg(test)]
#[path = "foreign_testing.rs"]
mod testing;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::{any_text, assert_printable};
    use super::*;

    #[test]
    fn printable_text_is_unchanged() {
        for text in [
            "",
            "pods \"zeek-0\" is 'forbidden'",
            "C:\\path",
            "größer 東京 שלום",
            "a/b:c=d",
        ] {
            assert_eq!(Foreign(text).to_string(), text);
        }
        assert_eq!(format!("{:?}", Foreign("a\"b\\")), r#""a\"b\\""#);
    }

    #[test]
    fn control_and_invisible_characters_are_escaped() {
        for (text, written) in [
            ("a\nb\r\t", r"a\nb\r\t"),
            ("\u{1b}[31m", r"\u{1b}[31m"),
            ("\u{85}\u{2028}\u{2029}", r"\u{85}\u{2028}\u{2029}"),
            ("\u{202e}gpj.exe\u{2066}", r"\u{202e}gpj.exe\u{2066}"),
            ("a\u{200b}b\u{feff}\u{3164}", r"a\u{200b}b\u{feff}\u{3164}"),
            ("a\u{a0}b", r"a\u{a0}b"),
        ] {
            assert_eq!(Foreign(text).to_string(), written);
            assert_eq!(format!("{:?}", Foreign(text)), format!("\"{written}\""));
        }
    }

    #[test]
    fn a_long_text_is_truncated_between_two_characters() {
        let exact = "é".repeat(MAX_CHARACTERS);
        assert_eq!(Foreign(&exact).to_string(), exact);
        let longer = format!("{exact}é");
        assert_eq!(Foreign(&longer).to_string(), format!("{exact}..."));
        assert_eq!(format!("{:?}", Foreign(&longer)), format!("\"{exact}\"..."));
        let escaped = Foreign(&"\n".repeat(MAX_CHARACTERS)).to_string();
        assert_eq!(escaped, format!("{}...", r"\n".repeat(MAX_CHARACTERS / 2)));
    }

    proptest! {
        #[test]
        fn any_text_is_one_printable_bounded_part_of_a_line(text in any_text()) {
            let bare = Foreign(&text).to_string();
            for written in [&bare, &format!("{:?}", Foreign(&text))] {
                assert_printable(written);
                let length = written.chars().count();
                prop_assert!(length <= MAX_CHARACTERS + TRUNCATED.len() + 2, "{}", written);
            }
            if !bare.ends_with(TRUNCATED) {
                prop_assert_eq!(Foreign(&bare).to_string(), bare);
            }
        }
    }
}
