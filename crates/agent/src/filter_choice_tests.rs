//! The decision, without rings.

use proptest::prelude::*;

use super::*;

fn annotations(filter: Option<&str>, mirror: Option<&str>) -> OwnAnnotations {
    OwnAnnotations {
        filter: filter.map(str::to_owned),
        mirror: mirror.map(str::to_owned),
    }
}

fn choice(setting: Option<&str>) -> FilterChoice {
    FilterChoice::new(setting.map(|text| Filter::new(text).unwrap()))
}

/// The text of the filter that is attached; `None` if everything is rejected.
fn attached(choice: &FilterChoice) -> Option<String> {
    match choice.mirrored() {
        Mirrored::Nothing => None,
        Mirrored::Accepted(filter) => {
            Some(filter.map_or_else(String::new, |filter| filter.text().to_owned()))
        }
    }
}

/// Gives a choice these annotations one after another; after each one, what is attached and the lines.
fn run(choice: FilterChoice, steps: &[OwnAnnotations]) -> Vec<(Option<String>, Vec<String>)> {
    let mut now = choice;
    let step = |annotations: &OwnAnnotations| {
        let (next, changes) = now.next(annotations.clone());
        now = next;
        let lines = changes.iter().map(Change::to_string).collect();
        (attached(&now), lines)
    };
    steps.iter().map(step).collect()
}

#[track_caller]
fn assert_line(lines: &[String], words: &[&str]) {
    let [line] = lines else {
        panic!("one line: {lines:?}");
    };
    for word in words {
        assert!(line.contains(word), "{word:?} is not in {line:?}");
    }
}

#[test]
fn without_annotations_the_setting_is_used_and_nothing_is_logged() {
    assert_eq!(attached(&choice(None)), Some(String::new()));
    let steps = run(
        choice(Some("udp")),
        &[annotations(None, None), annotations(None, Some("on"))],
    );
    for (filter, lines) in steps {
        assert_eq!(filter.as_deref(), Some("udp"));
        assert!(lines.is_empty(), "{lines:?}");
    }
}

#[test]
fn an_annotation_is_used_in_the_place_of_the_setting_until_it_is_removed() {
    let steps = run(
        choice(Some("udp")),
        &[
            annotations(Some("tcp port 80"), None),
            annotations(Some("tcp port 80"), None),
            annotations(Some(""), None),
            annotations(None, None),
        ],
    );
    assert_eq!(steps[0].0.as_deref(), Some("tcp port 80"));
    assert_line(&steps[0].1, &["podspan.dev/filter", "\"tcp port 80\""]);
    assert_eq!(steps[1], (Some("tcp port 80".to_owned()), vec![]));
    assert_eq!(
        steps[2].0.as_deref(),
        Some(""),
        "an empty one accepts every frame"
    );
    assert_line(&steps[2].1, &["podspan.dev/filter", "every frame"]);
    assert_eq!(steps[3].0.as_deref(), Some("udp"));
    assert_line(&steps[3].1, &["removed", "FILTER", "\"udp\""]);
}

#[test]
fn a_wrong_filter_is_refused_once_and_the_last_valid_one_stays() {
    let wrong = annotations(Some("tcp prot 80"), None);
    let steps = run(
        choice(None),
        &[
            annotations(Some("icmp"), None),
            wrong.clone(),
            wrong,
            annotations(Some("tcp prot 80"), Some("off")),
            annotations(None, None),
        ],
    );
    assert_eq!(steps[1].0.as_deref(), Some("icmp"));
    let words = [
        "podspan.dev/filter",
        "at byte 4, \"prot\"",
        "expected: ",
        "for example: ",
    ];
    assert_line(&steps[1].1, &words);
    assert_eq!(steps[2], (Some("icmp".to_owned()), vec![]));
    assert_eq!(steps[3].0, None);
    assert_line(&steps[3].1, &["switches mirroring off"]);
    assert_eq!(steps[4].0.as_deref(), Some(""));
    assert_eq!(
        steps[4].1.len(),
        2,
        "the filter is removed, and mirroring is on again"
    );
}

#[test]
fn a_filter_that_is_too_long_is_refused_and_its_start_is_not_compiled() {
    let text = format!("udp{}", " ".repeat(MAX_TEXT));
    let steps = run(choice(Some("icmp")), &[annotations(Some(&text), None)]);
    assert_eq!(steps[0].0.as_deref(), Some("icmp"));
    assert_line(
        &steps[0].1,
        &["podspan.dev/filter", "4096 bytes", "for example: "],
    );
}

#[test]
fn mirror_switches_off_and_on_and_another_value_changes_nothing() {
    let steps = run(
        choice(Some("udp")),
        &[
            annotations(None, Some("Off ")),
            annotations(None, Some("false")),
            annotations(None, Some("false")),
            // The filter of a switched off podspan is used when it is switched on.
            annotations(Some("tcp"), Some("off")),
            annotations(Some("tcp"), Some("on")),
            annotations(Some("tcp"), Some("")),
            annotations(Some("tcp"), Some("off")),
            annotations(Some("tcp"), None),
        ],
    );
    let filters: Vec<Option<&str>> = steps.iter().map(|(filter, _)| filter.as_deref()).collect();
    let (tcp, off) = (Some("tcp"), None);
    assert_eq!(filters, [off, off, off, off, tcp, tcp, off, tcp]);
    assert_line(&steps[0].1, &["podspan.dev/mirror", "off"]);
    assert_line(
        &steps[1].1,
        &["podspan.dev/mirror", "\"false\"", "\"on\" or \"off\""],
    );
    assert!(steps[2].1.is_empty());
    assert_line(&steps[3].1, &["\"tcp\""]);
    assert_line(&steps[4].1, &["switched on"]);
    assert_line(&steps[5].1, &["\"\"", "stays"]);
    assert_line(&steps[7].1, &["switched on"]);
}

#[test]
fn a_filter_that_the_kernel_refused_is_not_tried_again_until_it_changes() {
    let accepted = choice(Some("udp"));
    let (mut now, _) = accepted.next(annotations(Some("tcp"), None));
    now.use_filter_of(&accepted);
    assert_eq!(attached(&now).as_deref(), Some("udp"));
    let (off, changes) = now.next(annotations(Some("tcp"), Some("off")));
    assert_eq!((attached(&off), changes), (None, vec![Change::Off]));
    let (on, changes) = off.next(annotations(Some("tcp"), None));
    assert_eq!(
        (attached(&on).as_deref(), changes),
        (Some("udp"), vec![Change::On])
    );
    let (other, _) = on.next(annotations(Some("tcp port 80"), None));
    assert_eq!(attached(&other).as_deref(), Some("tcp port 80"));
}

#[test]
fn the_lines_are_short_and_printable() {
    let long = format!(
        "tcp and not ({}host 10.0.0.1)",
        "host 10.0.0.1 or ".repeat(200)
    );
    let hostile = "\u{202e}\n".repeat(1000);
    for text in [long.as_str(), &hostile, "tcp \u{7}\n prot"] {
        for annotations in [annotations(Some(text), None), annotations(None, Some(text))] {
            for (_, lines) in run(choice(Some(&long)), &[annotations]) {
                for line in lines {
                    assert!(line.chars().count() < 1000, "{line}");
                    assert!(!line.contains(char::is_control), "{line}");
                    assert!(!line.contains('\u{202e}'), "{line}");
                }
            }
        }
    }
}

proptest! {
    /// Whatever annotations come, the state depends on the last valid ones only.
    #[test]
    fn the_last_valid_annotations_decide(
        steps in prop::collection::vec(
            (
                prop::option::of(prop::sample::select(vec!["udp", "tcp", "prot", ""])),
                prop::option::of(prop::sample::select(vec!["on", "off", "no"])),
            ),
            1..20,
        ),
    ) {
        let (mut filter, mut is_off) = ("icmp", false);
        let mut now = choice(Some("icmp"));
        for (text, mirror) in steps {
            now = now.next(annotations(text, mirror)).0;
            filter = match text {
                None => "icmp",
                Some("prot") => filter,
                Some(text) => text,
            };
            is_off = match mirror {
                Some("no") => is_off,
                word => word == Some("off"),
            };
            prop_assert_eq!(attached(&now), (!is_off).then(|| filter.to_owned()));
        }
    }
}
