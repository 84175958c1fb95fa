//! Reads a string in Go's quotes, as the API server writes the name of a user with `%q`.
//!
//! In: a text that starts with such a string. Out: the string and the text after it, or `None`.
//!
//! Invariant: no guess, and no part of a string. A part of a name may be the name of another user.
//!
//! Source: `strconv.Quote` of Go, which writes `\a \b \f \n \r \t \v \\ \"`, `\xNN` for a byte that is
//! a control character or not part of valid UTF-8, and `\uNNNN` or `\UNNNNNNNN` for other characters
//! that cannot be printed.

/// The string at the start of `text`, and the text after its closing quote.
pub(crate) fn unquote(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut bytes = Vec::new();
    loop {
        let character = next(&mut rest)?;
        let character = match character {
            '"' => return Some((String::from_utf8(bytes).ok()?, rest)),
            '\\' => match next(&mut rest)? {
                plain @ ('"' | '\\') => plain,
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                'x' => {
                    bytes.push(u8::try_from(number(&mut rest, 2)?).ok()?);
                    continue;
                }
                'u' => char::from_u32(number(&mut rest, 4)?)?,
                'U' => char::from_u32(number(&mut rest, 8)?)?,
                _ => return None,
            },
            // Go always escapes them.
            '\n' | '\r' => return None,
            plain => plain,
        };
        bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// Removes and returns the first character of `rest`.
fn next(rest: &mut &str) -> Option<char> {
    let mut characters = rest.chars();
    let character = characters.next()?;
    *rest = characters.as_str();
    Some(character)
}

/// Removes and returns a number of `digits` hexadecimal digits at the start of `rest`.
fn number(rest: &mut &str, digits: usize) -> Option<u32> {
    let mut number = 0;
    for _ in 0..digits {
        number = number << 4 | next(rest)?.to_digit(16)?;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::foreign_testing::any_text;

    /// `text` as `%q` writes it. Go has tables of the printable characters; here `escape` decides
    /// where both forms are possible.
    fn quote(text: &str, mut escape: impl FnMut() -> bool) -> String {
        let body: String = text.chars().map(|it| written(it, escape())).collect();
        format!("\"{body}\"")
    }

    fn written(character: char, escape: bool) -> String {
        match (character, u32::from(character)) {
            ('"' | '\\', _) => format!("\\{character}"),
            ('\u{7}', _) => "\\a".to_owned(),
            ('\u{8}', _) => "\\b".to_owned(),
            ('\u{c}', _) => "\\f".to_owned(),
            ('\n', _) => "\\n".to_owned(),
            ('\r', _) => "\\r".to_owned(),
            ('\t', _) => "\\t".to_owned(),
            ('\u{b}', _) => "\\v".to_owned(),
            (_, code @ (..0x20 | 0x7f)) => format!("\\x{code:02x}"),
            (_, code @ 0x80..=0xffff) if escape => format!("\\u{code:04x}"),
            (_, code @ 0x10000..) if escape => format!("\\U{code:08x}"),
            _ => character.to_string(),
        }
    }

    #[test]
    fn strings_in_gos_quotes_are_read() {
        for (quoted, text) in [
            (r#""""#, ""),
            (r#""jane""#, "jane"),
            (r#""größer \u2028""#, "größer \u{2028}"),
            (
                r#""\a\b\f\n\r\t\v\\\"\x00\x7f\u00a0\U0010ffff""#,
                "\u{7}\u{8}\u{c}\n\r\t\u{b}\\\"\0\u{7f}\u{a0}\u{10ffff}",
            ),
        ] {
            let longer = format!("{quoted} \"more\"");
            let expected = Some((text.to_owned(), " \"more\""));
            assert_eq!(unquote(&longer), expected, "{quoted}");
        }
    }

    #[test]
    fn other_strings_are_refused() {
        for text in [
            "",
            "jane",
            "\"",
            "\"jane",
            "\"jane\\",
            "\"jane\\\"",
            r#""\q""#,
            r#""\'""#,
            r#""\x""#,
            r#""\x4""#,
            r#""\x4g""#,
            r#""\u12""#,
            r#""\ud800""#,
            r#""\U00110000""#,
            r#""\+001""#,
            r#""\101""#,
            "\"two\nlines\"",
            // A byte that is not a character: YAML cannot contain this name.
            r#""jane\xff""#,
        ] {
            assert_eq!(unquote(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_name_in_gos_quotes_is_read_exactly(
            name in any_text(),
            after in any_text(),
            escaped in prop::collection::vec(any::<bool>(), 1..50),
        ) {
            let mut escaped = escaped.into_iter().cycle();
            let quoted = quote(&name, || escaped.next().unwrap_or_default());
            let text = format!("{quoted}{after}");
            prop_assert_eq!(unquote(&text), Some((name, after.as_str())));
        }

        #[test]
        fn any_text_is_read_or_refused(text in any_text()) {
            let text = format!("\"{text}");
            if let Some((_, rest)) = unquote(&text) {
                let quote = text.len() - rest.len() - 1;
                prop_assert_eq!(text.as_bytes()[quote], b'"');
            }
        }
    }
}
