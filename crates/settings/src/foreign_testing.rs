//! Texts that try to forge lines, and a check of the result. For the tests of this crate and of `discovery`.

use proptest::prelude::*;

/// Any text; about half of its characters must be escaped in a log, or are quotes.
pub(crate) fn any_text() -> impl Strategy<Value = String> {
    let special: Vec<char> = "\n\r\t\u{0}\u{1b}\u{7f}\u{85}\u{9b}\u{ad}\u{34f}\u{61c}\u{115f}\
         \u{200b}\u{200e}\u{2028}\u{2029}\u{202e}\u{2066}\u{2800}\u{3164}\u{fe0f}\u{feff}\
         \u{e0041}\u{10ffff}\"'\\:{}#-"
        .chars()
        .collect();
    let character = prop_oneof![any::<char>(), prop::sample::select(special)];
    let characters = |most| prop::collection::vec(character.clone(), 0..most);
    let text = prop_oneof![4 => characters(40), 1 => characters(700)];
    let forged = Just("\n2026-11-23T00:00:00.000000Z  INFO forged".to_owned());
    prop_oneof![
        6 => text.prop_map(String::from_iter),
        1 => forged,
        1 => "[a-z][a-z0-9-]{0,60}",
    ]
}

/// Checks that each character of `line` is visible and has no other effect in a terminal or an
/// editor. The list is Unicode's, not that of the code under test.
#[track_caller]
pub(crate) fn assert_printable(line: &str) {
    let invisible = line.chars().find(|&character| {
        character.is_control()
            || (character.is_whitespace() && character != ' ')
            || matches!(character,
                '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
    });
    assert_eq!(invisible, None, "in {line:?}");
}
