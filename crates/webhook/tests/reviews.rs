//! The answers for pods of random shape: the patch, applied by other software, gives what `inject::inject` gives.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../inject/tests/common/mod.rs"]
mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use webhook::review::{Outcome, answer};

use common::{any_options, keeping_keys, options, replace, template};

fn review(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "a", "operation": "CREATE", "namespace": "shop", "object": pod,
            "resource": {"group": "", "version": "v1", "resource": "pods"},
        },
    })
}

/// What an API server makes of a pod and the answer.
fn patched(pod: &Value, response: &Value) -> Value {
    let mut pod = pod.clone();
    if let Some(patch) = response["patch"].as_str() {
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = STANDARD.decode(patch).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        json_patch::patch(&mut pod, &patch).unwrap();
    }
    pod
}

fn response(pod: &Value, options: &inject::Options<'_>) -> (Value, Outcome) {
    let answer = answer(review(pod).to_string().as_bytes(), options).unwrap();
    let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
    (body["response"].take(), answer.outcome)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_patched_pod_is_the_injected_pod(
        pod in template(), old in any_options(), new in any_options(), before in any::<bool>(),
    ) {
        let new = if before { keeping_keys(new, &old) } else { new };
        // Without podspan, or with the one of another version in the same or the other place.
        let pod = if before { inject::inject(&pod, &old).unwrap() } else { pod };
        let (answer, outcome) = response(&pod, &new);
        let injected = inject::inject(&pod, &new).unwrap();
        prop_assert_eq!(&patched(&pod, &answer), &injected);
        let expected = if injected == pod { Outcome::Unchanged } else { Outcome::Injected };
        prop_assert_eq!(outcome, expected);
        // The API server asks again if another webhook has changed the pod.
        prop_assert_eq!(response(&injected, &new).1, Outcome::Unchanged);
    }

    #[test]
    fn a_pod_that_is_refused_is_admitted_as_it_is(pod in template(), value in "[a-z]{0,5}") {
        let mut pod = pod;
        pod["metadata"]["annotations"] = json!({"podspan.dev/cpu": value});
        let (answer, outcome) = response(&pod, &options());
        prop_assert!(matches!(outcome, Outcome::Refused(_)));
        prop_assert_eq!(&answer["allowed"], true);
        prop_assert_eq!(&patched(&pod, &answer), &pod);
        let warning = answer["warnings"][0].as_str().unwrap();
        prop_assert!(warning.contains("podspan.dev/cpu"), "{}", warning);
    }

    #[test]
    fn no_body_causes_a_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = answer(&bytes, &options());
    }

    /// A valid review with some bytes replaced.
    #[test]
    fn no_damaged_review_causes_a_panic(
        pod in template(), damage in vec((any::<usize>(), any::<u8>()), 1..6), cut in any::<usize>(),
    ) {
        let mut body = review(&pod).to_string().into_bytes();
        for (place, byte) in damage {
            let place = place % body.len();
            body[place] = byte;
        }
        if cut % 4 == 0 {
            body.truncate(cut % body.len());
        }
        if let Ok(answer) = answer(&body, &options()) {
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            prop_assert_eq!(&body["response"]["allowed"], true);
        }
    }

    /// A valid review with one value replaced by one of another type.
    #[test]
    fn no_value_of_another_type_causes_a_panic(
        pod in template(), path in vec(any::<usize>(), 0..8), value in 0..5_usize,
    ) {
        let mut review = review(&pod);
        let values = [json!(null), json!(1), json!("a"), json!([]), json!({})];
        replace(&mut review, &path, values[value].clone());
        if let Ok(answer) = answer(review.to_string().as_bytes(), &options()) {
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            prop_assert_eq!(&body["response"]["allowed"], true);
        }
    }
}
