//! Pods of random shape: the policy gives each the container that the crate `inject` gives it, and changes nothing
//! else.

use std::env;
use std::time::Instant;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::cluster::{Api, Cluster, IN, OUT, assert_same, comparable, options};
use crate::valid::valid;
use crate::{Outcome, Test, common};

pub(crate) const TESTS: &[Test] = &[(
    "random_pods_get_the_same_container_and_keep_their_own",
    random,
)];

/// The environment variable with the number of pods, and its default.
const PODS: (&str, usize) = ("INJECTION_PODS", 500);
/// How many requests are under way at the same time.
const AT_ONCE: usize = 8;

fn random(cluster: &Cluster) -> Outcome {
    let pods = match env::var(PODS.0) {
        Ok(text) => text.parse()?,
        Err(_) => PODS.1,
    };
    // Random, as the cases of a property test; a failure prints the pod.
    let mut runner = TestRunner::new(Config::default());
    let strategy = common::template();
    let begun = Instant::now();
    let mut injected = 0;
    for _ in 0..pods.div_ceil(AT_ONCE * 4) {
        let mut batch = Vec::new();
        for _ in 0..AT_ONCE * 4 {
            let template = strategy.new_tree(&mut runner)?.current();
            batch.push(valid(&template));
        }
        injected += cluster.run(async |api| {
            let mut tasks = tokio::task::JoinSet::new();
            let mut injected = 0;
            for pod in batch {
                if tasks.len() == AT_ONCE {
                    injected += usize::from(tasks.join_next().await.unwrap().unwrap());
                }
                let api = api.clone();
                tasks.spawn(async move { check(&api, pod).await });
            }
            while let Some(result) = tasks.join_next().await {
                injected += usize::from(result.unwrap());
            }
            injected
        });
    }
    println!("{injected} pods injected in {:?}", begun.elapsed());
    // The generator has few pods that are refused.
    assert!(injected * 10 > pods * 8, "{injected} of {pods}");
    Ok(())
}

/// Whether podspan was injected.
async fn check(api: &Api, pod: Value) -> bool {
    let by_policy = api.dry(IN, &pod).await;
    let as_it_is = comparable(&api.dry(OUT, &pod).await.accepted());
    match inject::inject(&pod, &options()) {
        Ok(injected) => {
            let before = comparable(&api.dry(OUT, &injected).await.accepted());
            let by_policy = comparable(&by_policy.accepted());
            assert_same(&by_policy, &before, &pod);
            assert_eq!(
                by_policy["spec"]["initContainers"][0]["name"], "podspan",
                "{pod}"
            );
            let own = [&by_policy, &as_it_is].map(without_podspan);
            assert_same(&own[0], &own[1], &pod);
            true
        }
        Err(refused) => {
            // Refused by the validating policy or unchanged; its controller's pods are unchanged.
            if by_policy.status < 400 {
                assert_eq!(comparable(&by_policy.body), as_it_is, "{pod}: {refused}");
            }
            false
        }
    }
}

/// Without podspan's container and volume, and without the class that follows from the resources of all containers.
fn without_podspan(stored: &Value) -> Value {
    let mut stored = stored.clone();
    stored["status"]["qosClass"] = Value::Null;
    if let Some(entries) = stored["spec"]["initContainers"].as_array_mut() {
        entries.retain(|entry| entry["name"] != "podspan");
    }
    if stored["spec"]["initContainers"] == json!([]) || stored["spec"]["initContainers"].is_null() {
        stored["spec"]
            .as_object_mut()
            .unwrap()
            .remove("initContainers");
    }
    if let Some(volumes) = stored["spec"]["volumes"].as_array_mut() {
        volumes.retain(|volume| volume["name"] != "podspan-tunnel");
    }
    stored
}
