//! The text as words with their places.
//!
//! A word is as long as possible, as in pcap-filter(7): `ftp-data` is one name, and so is `5-3`. Names
//! of constants become their numbers here.

use std::net::Ipv6Addr;

use crate::MAX_TEXT;
use crate::error::{Error, Problem};
use crate::names::constant;

/// A word and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) offset: usize,
    pub(crate) text: &'a str,
    pub(crate) word: Word<'a>,
}

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word<'a> {
    /// A word of the language, or a name.
    Name(&'a str),
    /// A name after a backslash: not a word of the language.
    Escaped(&'a str),
    Number(u32),
    /// Two to four numbers with dots between them.
    V4(&'a str),
    V6(Ipv6Addr),
    Mac([u8; 6]),
    /// Operators and brackets.
    Symbol(&'static str),
}

/// Symbols; of two that fit, the longer one is first.
const SYMBOLS: &[(&str, &str)] = &[
    ("&&", "and"),
    ("||", "or"),
    (">=", ">="),
    ("<=", "<="),
    ("!=", "!="),
    ("==", "="),
    ("<<", "<<"),
    (">>", ">>"),
    ("+", "+"),
    ("-", "-"),
    ("*", "*"),
    ("/", "/"),
    ("%", "%"),
    (":", ":"),
    ("[", "["),
    ("]", "]"),
    ("!", "not"),
    ("<", "<"),
    (">", ">"),
    ("(", "("),
    (")", ")"),
    ("&", "&"),
    ("|", "|"),
    ("^", "^"),
    ("=", "="),
];

/// The words of a text.
pub(crate) fn words(text: &str) -> Result<Vec<Token<'_>>, Error> {
    if text.len() > MAX_TEXT {
        return Err(Error::new(0, text, Problem::TextTooLong(text.len())));
    }
    let mut tokens = Vec::new();
    let mut offset = 0;
    while let Some(rest) = text.get(offset..) {
        let Some(first) = rest.chars().next() else {
            break;
        };
        if matches!(first, ' ' | '\t' | '\r' | '\n') {
            offset += 1;
            continue;
        }
        let (length, word) = next(rest).map_err(|(length, problem)| {
            let word = rest.get(..length).unwrap_or(rest);
            Error::new(offset, word, problem)
        })?;
        let text = rest.get(..length).unwrap_or(rest);
        tokens.push(Token { offset, text, word });
        offset += length;
    }
    Ok(tokens)
}

/// The first word of `rest`, and its length.
fn next(rest: &str) -> Result<(usize, Word<'_>), (usize, Problem)> {
    if let Some(found) = colon_or_dash_address(rest) {
        return Ok(found);
    }
    if let Some(name) = rest.strip_prefix('\\') {
        let end = name
            .find([' ', '!', '(', ')', '\n', '\t'])
            .unwrap_or(name.len());
        return match name.get(..end) {
            Some(name) if !name.is_empty() => Ok((1 + end, Word::Escaped(name))),
            _ => Err((1, Problem::UnknownCharacter)),
        };
    }
    let name = name_at(rest);
    if !name.is_empty() {
        return value(name)
            .map(|word| (name.len(), word))
            .map_err(|problem| (name.len(), problem));
    }
    let symbol = SYMBOLS.iter().find(|(text, _)| rest.starts_with(text));
    symbol
        .map(|(text, word)| (text.len(), Word::Symbol(word)))
        .ok_or_else(|| {
            let length = rest.chars().next().map_or(0, char::len_utf8);
            (length, Problem::UnknownCharacter)
        })
}

/// A MAC address with separators, or an IPv6 address.
fn colon_or_dash_address(rest: &str) -> Option<(usize, Word<'_>)> {
    /// The longest address as text.
    const LONGEST: usize = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255".len();
    if !rest.starts_with(|c: char| c.is_ascii_hexdigit() || c == ':') {
        return None;
    }
    let is_part = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.' | '-');
    let short = rest.char_indices().take(LONGEST + 1);
    let end = short
        .map(|(at, c)| (at, is_part(c)))
        .find(|(_, part)| !part);
    let end = end.map_or(rest.len(), |(at, _)| at);
    let (run, after) = rest.split_at_checked(end)?;
    if end > LONGEST || after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    if let Some(mac) = mac(run) {
        return Some((end, Word::Mac(mac)));
    }
    let address = run.contains(':').then(|| run.parse().ok()).flatten()?;
    Some((end, Word::V6(address)))
}

/// A MAC address: six bytes with `:`, `-` or `.` between them, three groups with dots, or 12 digits.
fn mac(run: &str) -> Option<[u8; 6]> {
    let separated = |separator: char| {
        let parts: Vec<&str> = run.split(separator).collect();
        let fits = parts.len() == 6 && parts.iter().all(|part| matches!(part.len(), 1 | 2));
        fits.then(|| {
            parts
                .iter()
                .map(|part| u8::from_str_radix(part, 16))
                .collect()
        })
    };
    let digits = || {
        let groups = run.split('.');
        let fits =
            run.len() == 12 || (run.len() == 14 && groups.clone().all(|group| group.len() == 4));
        let digits: String = groups.collect();
        let fits =
            fits && digits.len() == 12 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2).unwrap_or(""), 16);
        fits.then(|| (0..12).step_by(2).map(byte).collect())
    };
    let bytes: Result<Vec<u8>, _> = separated(':')
        .or_else(|| separated('-'))
        .or_else(|| separated('.'))
        .or_else(digits)?;
    bytes.ok()?.try_into().ok()
}

/// The name at the start: letters, digits, and `-`, `_` and `.` within.
fn name_at(rest: &str) -> &str {
    if !rest.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return "";
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    rest.get(..end).unwrap_or("").trim_end_matches(['-', '_'])
}

/// What a name is: a number, numbers with dots, a constant, or a name.
fn value(name: &str) -> Result<Word<'_>, Problem> {
    if is_decimal(name) || hexadecimal(name).is_some() {
        return number(name).map(Word::Number).ok_or(Problem::BadNumber);
    }
    let parts = name.split('.').count();
    if (2..=4).contains(&parts) && name.split('.').all(is_decimal) {
        return Ok(Word::V4(name));
    }
    Ok(constant(name).map_or(Word::Name(name), Word::Number))
}

fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The digits after `0x`, if there are only such.
fn hexadecimal(text: &str) -> Option<&str> {
    let digits = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_number.then_some(digits)
}

/// A number as in C.
pub(crate) fn number(text: &str) -> Option<u32> {
    if let Some(digits) = hexadecimal(text) {
        return u32::from_str_radix(digits, 16).ok();
    }
    if !is_decimal(text) {
        return None;
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u32::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Word<'_>> {
        words(text)
            .unwrap()
            .into_iter()
            .map(|token| token.word)
            .collect()
    }

    #[test]
    fn a_word_is_as_long_as_possible() {
        assert_eq!(kinds("ftp-data"), [Word::Name("ftp-data")]);
        assert_eq!(kinds("10-20"), [Word::Name("10-20")]);
        assert_eq!(kinds("1.2"), [Word::V4("1.2")]);
        assert_eq!(kinds("ip[2:2]>=0x10").len(), 8);
        assert_eq!(
            kinds("tcp-syn|tcp-fin"),
            [Word::Number(2), Word::Symbol("|"), Word::Number(1)]
        );
        assert_eq!(kinds("\\tcp"), [Word::Escaped("tcp")]);
        assert_eq!(kinds("010"), [Word::Number(8)]);
    }

    #[test]
    fn each_form_of_a_mac_address_is_one_word() {
        let expected = [0x02, 0, 0x5e, 0x10, 0, 0x0f];
        for text in [
            "02:00:5e:10:00:0f",
            "2:0:5E:10:0:f",
            "02-00-5e-10-00-0f",
            "0200.5e10.000f",
            "02005e10000f",
        ] {
            assert_eq!(kinds(text), [Word::Mac(expected)], "{text}");
        }
        assert_eq!(kinds("::1"), [Word::V6(Ipv6Addr::LOCALHOST)]);
        assert_eq!(kinds("fe80::1/64")[1], Word::Symbol("/"));
    }

    #[test]
    fn an_error_has_the_place_of_the_word() {
        let error = words("tcp and port 99999999999").unwrap_err();
        assert_eq!((error.offset, error.word.as_str()), (13, "99999999999"));
        let error = words("host ä").unwrap_err();
        assert_eq!((error.offset, error.word.as_str()), (5, "ä"));
        assert_eq!(words("port 089").unwrap_err().problem, Problem::BadNumber);
    }
}
