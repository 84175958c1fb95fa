//! A text that podspan did not write, as one printable, bounded part of a log line.
//!
//! What comes in are names, phases, annotations and messages of the API server and of pods, values
//! of a kubeconfig or of the environment, and causes that a library gives. What goes out, by `Display` or in quotes by `Debug`, has at most 300 characters, and no
//! character that ends a line, moves the cursor, changes the direction of what follows, or cannot be
//! seen. Such a one is written as Rust writes it, `\n` or `\u{202e}`.
//!
//! It is needed although the log has its own escapes: `tracing-subscriber` lets line breaks pass in
//! a message, and everything in a field written by `%`; JSON lets U+2028 and bidirectional overrides
//! pass.
//!
//! Invariant: a text that was written before is not escaped again, so it may pass more than once.
//!
//! Source: Unicode Standard Annex 44, `General_Category`, by way of [`char::escape_debug`]: it
//! escapes Cc, Cf, Cs, Co, Cn, Zl, Zp and Zs but for the space, and `Grapheme_Extend`.

use std::fmt::{self, Write as _};

/// The most characters of a text that are written. The longest names of Kubernetes have 253.
const LONGEST: usize = 300;

/// Stands behind a text that was cut.
const CUT: &str = "...";

/// A text that podspan did not write, as part of one line: bare by `Display`, and by `Debug` in
/// quotes.
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
    /// Writes characters that are `plain` as they are and escapes the others, up to the bound; gives
    /// what stands behind a text that was cut, and nothing behind another.
    fn write(
        self,
        f: &mut fmt::Formatter<'_>,
        plain: impl Fn(char) -> bool,
    ) -> Result<&'static str, fmt::Error> {
        let mut left = LONGEST;
        for character in self.0.chars() {
            let written = if plain(character) {
                character.to_string()
            } else {
                escaped(character)
            };
            match left.checked_sub(written.chars().count()) {
                Some(rest) => left = rest,
                None => return Ok(CUT),
            }
            f.write_str(&written)?;
        }
        Ok("")
    }
}

/// Whether a reader sees this character, and nothing but it.
pub(crate) fn is_printable(character: char) -> bool {
    match character {
        // They only end a text or escape something, and not here.
        '"' | '\'' | '\\' => true,
        // Letters and a symbol that have no shape of their own: Hangul fillers, an empty Braille cell.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}' => false,
        character => character.escape_debug().len() == 1,
    }
}

/// Whether a text is written in full.
pub(crate) fn is_short(text: &str) -> bool {
    text.chars().nth(LONGEST).is_none()
}

fn escaped(character: char) -> String {
    let escaped = character.escape_debug();
    // What `is_printable` refuses beyond Rust's own list.
    if escaped.len() == 1 {
        return character.escape_unicode().to_string();
    }
    escaped.to_string()
}

#[cfg(test)]
pub(crate) mod testing {
    //! Texts that try to forge lines, and a check of what is written of them.

    use proptest::prelude::*;

    /// Any text; every other character is one that a log must not have as it is, or that quotes.
    pub(crate) fn any_text() -> impl Strategy<Value = String> {
        let evil: Vec<char> = "\n\r\t\u{0}\u{1b}\u{7f}\u{85}\u{9b}\u{ad}\u{34f}\u{61c}\u{115f}\
             \u{200b}\u{200e}\u{2028}\u{2029}\u{202e}\u{2066}\u{2800}\u{3164}\u{fe0f}\u{feff}\
             \u{e0041}\u{10ffff}\"'\\:{}#-"
            .chars()
            .collect();
        let character = prop_oneof![any::<char>(), prop::sample::select(evil)];
        let characters = |most| prop::collection::vec(character.clone(), 0..most);
        let text = prop_oneof![4 => characters(40), 1 => characters(700)];
        let forged = Just("\n2026-11-23T00:00:00.000000Z  INFO forged".to_owned());
        prop_oneof![
            6 => text.prop_map(String::from_iter),
            1 => forged,
            1 => "[a-z][a-z0-9-]{0,60}",
        ]
    }

    /// That `line` has no character that a terminal or an editor takes for more or for less than a
    /// sign. The list is Unicode's, not that of the code under test.
    #[track_caller]
    pub(crate) fn assert_printable(line: &str) {
        let unseen = line.chars().find(|&character| {
            character.is_control()
                || (character.is_whitespace() && character != ' ')
                || matches!(character,
                    '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{180b}'..='\u{180f}'
                    | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                    | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
                    | '\u{fff0}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
        });
        assert_eq!(unseen, None, "in {line:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::{any_text, assert_printable};
    use super::*;

    #[test]
    fn what_can_be_read_is_written_as_it_is() {
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
    fn what_forges_or_hides_is_escaped() {
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
    fn a_long_text_is_cut_between_two_characters() {
        let exact = "é".repeat(LONGEST);
        assert_eq!(Foreign(&exact).to_string(), exact);
        let longer = format!("{exact}é");
        assert_eq!(Foreign(&longer).to_string(), format!("{exact}..."));
        assert_eq!(format!("{:?}", Foreign(&longer)), format!("\"{exact}\"..."));
        let escaped = Foreign(&"\n".repeat(LONGEST)).to_string();
        assert_eq!(escaped, format!("{}...", r"\n".repeat(LONGEST / 2)));
    }

    proptest! {
        #[test]
        fn any_text_is_one_printable_bounded_part_of_a_line(text in any_text()) {
            let bare = Foreign(&text).to_string();
            for written in [&bare, &format!("{:?}", Foreign(&text))] {
                assert_printable(written);
                prop_assert!(written.chars().count() <= LONGEST + CUT.len() + 2, "{}", written);
            }
            if !bare.ends_with(CUT) {
                prop_assert_eq!(Foreign(&bare).to_string(), bare);
            }
        }
    }
}
