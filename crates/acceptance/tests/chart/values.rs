//! What helm says about the chart and about values.

use std::path::Path;

use crate::programs::{helm, manifests, succeeded, template};

#[test]
fn helm_finds_no_fault() {
    // helm warns of versions that a cluster will no longer serve.
    for (kubernetes, set) in [
        ("1.36", "way=policy"),
        ("1.35", "policy.apiVersion=v1beta1"),
        ("1.36", "way=webhook"),
        ("1.36", "way=webhook,webhook.certManager=true"),
        (
            "1.36",
            "rbac.ownNamespace.shop={default},rbac.allNamespaces.shop={default},sensor.example=true",
        ),
    ] {
        let chart = manifests("chart");
        let arguments = [
            Path::new("lint"),
            Path::new("--strict"),
            &chart,
            Path::new("--kube-version"),
            Path::new(kubernetes),
            Path::new("--set"),
            Path::new(set),
        ];
        let said = succeeded(helm(&arguments));
        assert!(said.contains("0 chart(s) failed"), "{said}");
        assert!(!said.contains("[WARNING]"), "{said}");
    }
}

#[test]
fn wrong_values_are_refused_by_their_names() {
    for (values, parts) in [
        ("way: sidecar", &["/way", "'policy', 'webhook'"][..]),
        ("ways: policy", &["'ways' not allowed"]),
        (
            "policy: {apiVersion: v2}",
            &["/policy/apiVersion", "'v1beta1'"],
        ),
        ("security: none", &["/security", "'baseline'"]),
        ("image: ''", &["/image"]),
        (
            "defaults: {vni: 26}",
            &["/defaults/vni", "got number, want string"],
        ),
        ("defaults: {image: a}", &["/defaults/image"]),
        (
            "defaults: {podspan.dev/vni: '1'}",
            &["/defaults", "podspan.dev/vni"],
        ),
        ("defaults: {filter: 'tcp;udp'}", &["/defaults/filter"]),
        (
            "webhook: {replicas: 0}",
            &["/webhook/replicas", "got 0, want 1"],
        ),
        (
            "webhook: {replica: 1}",
            &["/webhook", "'replica' not allowed"],
        ),
        ("webhook: {placement: last}", &["/webhook/placement"]),
        (
            "rbac: {ownNamespace: [shop]}",
            &["/rbac/ownNamespace", "want object"],
        ),
        (
            "rbac: {ownNamespace: {shop: default}}",
            &["/rbac/ownNamespace/shop", "want array"],
        ),
        (
            "rbac: {allNamespaces: {shop: [A]}}",
            &["/rbac/allNamespaces/shop/0"],
        ),
        (
            "sensor: {example: 'on'}",
            &["/sensor/example", "want boolean"],
        ),
    ] {
        let output = template(&manifests("chart"), "default", values);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{values}");
        for part in parts {
            assert!(said.contains(part), "{values}: {said}");
        }
    }
}
