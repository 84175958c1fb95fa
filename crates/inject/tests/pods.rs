//! Pods of random shape, from the types of the API: injection changes only podspan's container and the volume with its
//! keys, a second one changes nothing, and removal returns the input.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use inject::{Options, Placement, inject, is_injected, remove};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use common::{any_options, options, replace, template};

/// The template without podspan's container and volume, and without a list that is empty then.
fn others(template: &Value) -> Value {
    let mut template = template.clone();
    let spec = template["spec"].as_object_mut().unwrap();
    for (field, name) in [
        ("initContainers", "podspan"),
        ("containers", "podspan"),
        ("volumes", "podspan-tunnel"),
    ] {
        let entries = spec.get_mut(field).and_then(Value::as_array_mut);
        if let Some(entries) = entries {
            entries.retain(|entry| entry["name"] != name);
        }
    }
    let empty = |list: &Value| list.is_null() || list.as_array().is_some_and(Vec::is_empty);
    spec.retain(|name, value| {
        !["initContainers", "volumes"].contains(&name.as_str()) || !empty(value)
    });
    template
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn injection_changes_only_podspans_container_and_volume(template in template(), options in any_options()) {
        let injected = inject(&template, &options).unwrap();
        prop_assert!(is_injected(&injected) && !is_injected(&template));
        prop_assert_eq!(others(&injected), others(&template));
        let (list, place) = match options.placement {
            Placement::Native => ("initContainers", 0),
            Placement::Plain => ("containers", injected["spec"]["containers"].as_array().unwrap().len() - 1),
        };
        let container = &injected["spec"][list][place];
        prop_assert_eq!(&container["name"], "podspan");
        let annotation = template["metadata"]["annotations"]["podspan.dev/tunnel-secret"].as_str();
        let secret = annotation.or(options.defaults.first().map(|(_, secret)| secret.as_str()));
        let volumes = injected["spec"]["volumes"].as_array().map_or(&[][..], Vec::as_slice);
        let volume = volumes.iter().find(|volume| volume["name"] == "podspan-tunnel");
        prop_assert_eq!(volume.and_then(|volume| volume["secret"]["secretName"].as_str()), secret);
        prop_assert_eq!(container.get("volumeMounts").is_some(), secret.is_some());
    }

    #[test]
    fn a_second_injection_changes_nothing(template in template(), options in any_options()) {
        let injected = inject(&template, &options).unwrap();
        prop_assert_eq!(inject(&injected, &options).unwrap(), injected);
    }

    #[test]
    fn removal_returns_the_input(template in template(), options in any_options()) {
        let injected = inject(&template, &options).unwrap();
        prop_assert_eq!(remove(&injected).unwrap(), template.clone());
        prop_assert_eq!(remove(&template).unwrap(), template);
    }

    /// From another version, with other settings and in the other place.
    #[test]
    fn a_new_injection_replaces_the_old_one(
        template in template(), old in any_options(), new in any_options(), sensor in "[a-z]{1,5}",
    ) {
        let mut injected = inject(&template, &old).unwrap();
        let mut template = template;
        for pod in [&mut injected, &mut template] {
            pod["metadata"]["annotations"]["podspan.dev/sensor"] = Value::from(sensor.as_str());
            if !old.defaults.is_empty() {
                pod["metadata"]["annotations"]["podspan.dev/tunnel-secret"] = Value::from(sensor.as_str());
            }
        }
        let again = inject(&injected, &new).unwrap();
        prop_assert_eq!(&again, &inject(&template, &new).unwrap());
        prop_assert_eq!(remove(&again).unwrap(), template);
    }

    /// What the API server adds is no difference.
    #[test]
    fn an_injected_object_of_the_api_server_is_up_to_date(template in template()) {
        let defaults = vec![("tunnel-secret".to_owned(), "keys".to_owned())];
        let options = Options { placement: Placement::Native, defaults, ..options() };
        let mut injected = inject(&template, &options).unwrap();
        let container = &mut injected["spec"]["initContainers"][0];
        container["imagePullPolicy"] = "IfNotPresent".into();
        container["terminationMessagePath"] = "/dev/termination-log".into();
        container["terminationMessagePolicy"] = "File".into();
        container["env"][2]["valueFrom"]["fieldRef"]["apiVersion"] = "v1".into();
        let token = json!({"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
        container["volumeMounts"].as_array_mut().unwrap().push(token);
        let volumes = injected["spec"]["volumes"].as_array_mut().unwrap();
        volumes.last_mut().unwrap()["secret"]["defaultMode"] = 420.into();
        prop_assert_eq!(inject(&injected, &options).unwrap(), injected);
    }

    /// A damaged or foreign value is refused or changed, without a panic.
    #[test]
    fn no_value_causes_a_panic(template in template(), path in vec(any::<usize>(), 0..9), value in "[a-z]{0,3}|[0-9]") {
        let defaults = vec![("tunnel-secret".to_owned(), "keys".to_owned())];
        let options = Options { defaults, ..options() };
        let mut injected = inject(&template, &options).unwrap();
        let value = serde_json::from_str(&value).unwrap_or(Value::from(value));
        replace(&mut injected, &path, value);
        let _ = inject(&injected, &options);
        let _ = remove(&injected);
    }
}
