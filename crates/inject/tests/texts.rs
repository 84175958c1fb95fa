//! Streams of random style: what injection makes of the text is what it makes of the value, a second one
//! changes nothing, removal returns the bytes, and no bytes cause a panic.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use inject::{Options, Placement, inject, yaml};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use common::writer::Writer;
use common::{any_options, keeping_keys, options, template};

/// One document: the object, and the path to the template in it.
#[derive(Debug, Clone)]
struct Written {
    value: Value,
    templates: Vec<&'static str>,
    text: String,
}

fn object(kind: usize, template: Value) -> (Value, Vec<&'static str>) {
    let named = |version: &str, kind: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "spec": spec});
    match kind {
        0 => (
            named(
                "apps/v1",
                "Deployment",
                json!({"template": template, "replicas": 2}),
            ),
            vec!["/spec/template"],
        ),
        1 => (
            named(
                "batch/v1",
                "CronJob",
                json!({"jobTemplate": {"spec": {"template": template}}}),
            ),
            vec!["/spec/jobTemplate/spec/template"],
        ),
        2 => {
            let mut pod = template;
            pod["apiVersion"] = "v1".into();
            pod["kind"] = "Pod".into();
            (pod, vec![""])
        }
        3 => {
            let rollout = named(
                "argoproj.io/v1alpha1",
                "Rollout",
                json!({"template": template}),
            );
            let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "spec:\n  containers: []\n"}});
            let job = named("batch/v1", "Job", json!({"template": template}));
            let list = json!({"apiVersion": "v1", "kind": "List", "items": [rollout, config, job]});
            (
                list,
                vec!["/items/0/spec/template", "/items/2/spec/template"],
            )
        }
        _ => (
            json!({"kind": "Custom", "spec": {"template": template}}),
            vec![],
        ),
    }
}

fn written() -> impl Strategy<Value = Written> {
    (0..5_usize, template(), vec(any::<u8>(), 64..256), 0..6_u8).prop_map(
        |(kind, template, choices, json)| {
            let (value, templates) = object(kind, template);
            let text = match json {
                0 => value.to_string() + "\n",
                1 => serde_json::to_string_pretty(&value).unwrap() + "\n",
                _ => Writer::document(&value, &choices),
            };
            Written {
                value,
                templates,
                text,
            }
        },
    )
}

/// Documents, and the stream of them: with Windows' line breaks, with or without the last one.
fn stream() -> impl Strategy<Value = (Vec<Written>, String)> {
    (vec(written(), 1..4), any::<bool>(), any::<bool>(), 0..5_u8).prop_map(
        |(documents, start, last, windows)| {
            let mut text = if start {
                "---\n".to_owned()
            } else {
                String::new()
            };
            let texts: Vec<_> = documents
                .iter()
                .map(|document| document.text.as_str())
                .collect();
            text.push_str(&texts.join("--- # next\n"));
            // A block scalar at the end has another value without it.
            if !last && !text.contains('|') {
                text.truncate(text.len() - 1);
            }
            if windows == 0 {
                text = text.replace('\n', "\r\n");
            }
            (documents, text)
        },
    )
}

fn injected(document: &Written, options: &Options<'_>) -> Value {
    let mut value = document.value.clone();
    for path in &document.templates {
        let template = value.pointer_mut(path).unwrap();
        *template = inject(template, options).unwrap();
    }
    value
}

/// The texts of `null` differ, and podspan writes down which one stood there.
fn without_restore(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            if fields.get("name").is_some_and(|name| {
                name == "PODSPAN_INIT_CONTAINERS_BEFORE" || name == "PODSPAN_VOLUMES_BEFORE"
            }) {
                fields.insert("value".to_owned(), "".into());
            }
            fields
                .values_mut()
                .for_each(|value| *value = without_restore(value.take()));
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| *item = without_restore(item.take())),
        _ => (),
    }
    value
}

fn read(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_text_has_the_value_of_injection((documents, text) in stream(), options in any_options()) {
        let values: Vec<_> = documents.iter().map(|document| document.value.clone()).collect();
        prop_assert_eq!(read(&text), values, "the test's writer\n{}", text);
        let output = yaml::inject(text.as_bytes(), &options);
        let output = output.unwrap_or_else(|error| panic!("{error}\n{text}"));
        let expected: Vec<_> = documents.iter().map(|document| without_restore(injected(document, &options))).collect();
        let found: Vec<_> = read(&output.text).into_iter().map(without_restore).collect();
        prop_assert_eq!(found, expected, "{}\n=>\n{}", text, output.text);
    }

    #[test]
    fn removal_returns_the_bytes((_, text) in stream(), options in any_options()) {
        let output = yaml::inject(text.as_bytes(), &options).unwrap();
        let again = yaml::inject(output.text.as_bytes(), &options).unwrap();
        prop_assert_eq!(&again.text, &output.text, "a second injection");
        prop_assert_eq!(yaml::remove(output.text.as_bytes()).unwrap().text, text.clone());
        prop_assert_eq!(yaml::remove(text.as_bytes()).unwrap().text, text);
    }

    /// An update or a move to the other list gives what a first injection gives.
    #[test]
    fn a_new_injection_replaces_the_old_one((documents, text) in stream(), old in any_options(), new in any_options()) {
        let new = keeping_keys(new, &old);
        let first = yaml::inject(text.as_bytes(), &old).unwrap();
        let output = yaml::inject(first.text.as_bytes(), &new).unwrap_or_else(|error| panic!("{error}\n{}", first.text));
        let expected: Vec<_> = documents.iter().map(|document| without_restore(injected(document, &new))).collect();
        let found: Vec<_> = read(&output.text).into_iter().map(without_restore).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(yaml::remove(output.text.as_bytes()).unwrap().text, text);
    }

    /// Bytes are inserted, deleted and doubled at random places.
    #[test]
    fn damaged_text_is_refused_or_changed_reversibly(
        (_, text) in stream(), options in any_options(),
        damage in vec((any::<prop::sample::Index>(), 0..4_u8, "[-:#{}\\[\\]&*!|>'\"%@` \t\n\r,?a<\u{feff}\u{e9}]{1,3}"), 1..5),
    ) {
        let mut bytes = text.into_bytes();
        for (place, kind, inserted) in damage {
            let at = place.index(bytes.len().max(1));
            match kind {
                0 => drop(bytes.splice(at..at, inserted.into_bytes())),
                1 => drop(bytes.drain(at..(at + 3).min(bytes.len()))),
                2 => bytes = [&bytes[..at], &bytes[at / 2..]].concat(),
                _ => bytes.truncate(at),
            }
        }
        if let Ok(output) = yaml::inject(&bytes, &options) {
            prop_assert_eq!(yaml::inject(output.text.as_bytes(), &options).unwrap().text, output.text.clone());
            // Unless it had podspan's container before.
            if yaml::remove(&bytes).is_ok_and(|removed| removed.text.as_bytes() == bytes) {
                prop_assert_eq!(yaml::remove(output.text.as_bytes()).unwrap().text.into_bytes(), bytes);
            }
        }
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = yaml::inject(&bytes, &options());
        let _ = yaml::remove(&bytes);
    }

    #[test]
    fn no_text_causes_a_panic(text in "([-?:,\\[\\]{}#&*!|>'\"%@` \t\n]|kind: Pod\n|spec:\n|  containers:\n|  - name: a\n|<<: \\*a\n|&a |\\*a |apiVersion: v1\n){0,30}") {
        let _ = yaml::inject(text.as_bytes(), &options());
        let _ = yaml::remove(text.as_bytes());
    }
}

/// As kubectl gets it from an API server: in block style, with defaults, the marker of an empty list included.
#[test]
fn what_an_api_server_returns_is_removed_too() {
    for list in ["[]", "null", "~"] {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nspec:\n  initContainers: {list}\n  containers:\n  - name: a\n"
        );
        let output = yaml::inject(
            text.as_bytes(),
            &Options {
                placement: Placement::Native,
                ..options()
            },
        )
        .unwrap();
        let value: Value = read(&output.text).remove(0);
        let block = Writer::document(&value, &[1, 1, 2, 3, 5]);
        assert!(block.contains("\n  - "), "{block}");
        let removed =
            yaml::remove(block.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{block}"));
        assert_eq!(
            read(&removed.text),
            read(&text),
            "{block}\n=>\n{}",
            removed.text
        );
    }
}
