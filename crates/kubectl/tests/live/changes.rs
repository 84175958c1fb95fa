//! What changes in objects, and what the user sees of it.

use serde_json::json;

use crate::Test;
use crate::fixture::{Cluster, Outcome, deployment, injected, template};

pub(crate) const TESTS: &[Test] = &[
    ("the_template_is_what_inject_makes_and_is_restored", round),
    ("the_volume_with_keys_comes_and_goes_with_podspan", keys),
    ("each_kind_is_changed_at_its_template", kinds),
    ("a_dry_run_shows_the_diff_and_changes_nothing", dry_run),
    ("on_a_terminal_the_change_is_confirmed", terminal),
    ("a_change_meanwhile_is_named_and_kept", moved),
    ("an_object_that_keeps_changing_is_not_changed", keeps_moving),
    ("a_change_of_the_status_is_no_conflict", status),
    ("a_later_apply_of_the_file_keeps_podspan", later_apply),
];

fn round(cluster: &Cluster) -> Outcome {
    cluster.namespace("round")?;
    cluster.deploy("round", "web")?;
    let mut wanted = deployment("round", "wanted");
    wanted["spec"]["template"] = injected(&template("wanted"));
    cluster.plane.apply(&wanted)?;

    let before = cluster.read("round", "deployment/web")?;
    let ran = cluster
        .podspan("round", &["inject", "deploy/web", "--yes"])
        .succeeded();
    assert!(
        ran.messages
            .contains("deployment round/web: its pods are replaced: a rollout starts"),
        "{ran:?}"
    );
    assert!(
        ran.messages
            .ends_with("deployment round/web: podspan is injected\n"),
        "{ran:?}"
    );
    let after = cluster.read("round", "deployment/web")?;
    let wanted = cluster.read("round", "deployment/wanted")?;
    assert_eq!(
        after["spec"]["template"]["spec"],
        wanted["spec"]["template"]["spec"]
    );
    assert_eq!(
        after["spec"]["template"]["metadata"],
        before["spec"]["template"]["metadata"]
    );

    let again = cluster
        .podspan("round", &["inject", "deploy/web"])
        .succeeded();
    assert_eq!(
        (again.output.as_str(), again.messages.as_str()),
        ("", "deployment round/web: unchanged\n")
    );

    let removed = cluster
        .podspan("round", &["uninject", "deploy/web", "-y"])
        .succeeded();
    assert!(
        removed
            .messages
            .ends_with("deployment round/web: podspan is removed\n"),
        "{removed:?}"
    );
    assert_eq!(
        cluster.read("round", "deployment/web")?["spec"],
        before["spec"]
    );
    Ok(())
}

/// A volume comes and goes with the container.
fn keys(cluster: &Cluster) -> Outcome {
    cluster.namespace("keys")?;
    cluster.deploy("keys", "web")?;
    let before = cluster.read("keys", "deployment/web")?;
    let inject = |secret: &str| {
        let secret = format!("--tunnel-secret={secret}");
        let arguments = ["inject", "deploy/web", "--yes", &secret];
        cluster.podspan("keys", &arguments).succeeded()
    };
    for (secret, outcome) in [
        ("shop", "podspan is injected"),
        ("web", "podspan is updated"),
    ] {
        let ran = inject(secret);
        assert!(ran.messages.contains(outcome), "{ran:?}");
        let after = cluster.read("keys", "deployment/web")?;
        let spec = &after["spec"]["template"]["spec"];
        let source = json!({"secretName": secret, "optional": true, "defaultMode": 0o644});
        assert_eq!(
            spec["volumes"],
            json!([{"name": "podspan-tunnel", "secret": source}])
        );
        let mounts = &spec["initContainers"][0]["volumeMounts"];
        assert_eq!(mounts[0]["name"], "podspan-tunnel");
        let again = inject(secret);
        assert!(again.messages.ends_with("web: unchanged\n"), "{again:?}");
    }
    cluster
        .podspan("keys", &["uninject", "deploy/web", "-y"])
        .succeeded();
    assert_eq!(
        cluster.read("keys", "deployment/web")?["spec"],
        before["spec"]
    );
    Ok(())
}

fn kinds(cluster: &Cluster) -> Outcome {
    cluster.namespace("kinds")?;
    let selector = json!({"matchLabels": {"app": "web"}});
    let spec = json!({"selector": selector, "template": template("web"), "serviceName": "web"});
    let mut job = template("web");
    job["spec"]["restartPolicy"] = json!("Never");
    let cron = json!({"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": job}}});
    let mut plain = spec.clone();
    plain.as_object_mut().unwrap().remove("serviceName");
    let objects = [
        ("apps/v1", "StatefulSet", spec.clone(), "/spec/template"),
        ("apps/v1", "DaemonSet", plain.clone(), "/spec/template"),
        ("apps/v1", "ReplicaSet", plain, "/spec/template"),
        (
            "batch/v1",
            "CronJob",
            cron,
            "/spec/jobTemplate/spec/template",
        ),
    ];
    let mut names = Vec::new();
    for (version, kind, spec, _) in &objects {
        let metadata = json!({"name": "web", "namespace": "kinds"});
        cluster.plane.apply(
            &json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}),
        )?;
        names.push(format!("{}/web", kind.to_lowercase()));
    }
    let read = || {
        names
            .iter()
            .map(|name| cluster.read("kinds", name))
            .collect::<Result<Vec<_>, _>>()
    };
    let before = read()?;
    let run = |verb, more: &[&str]| {
        let names = names.iter().map(String::as_str);
        let arguments: Vec<_> = [verb]
            .into_iter()
            .chain(names)
            .chain(more.iter().copied())
            .collect();
        cluster.podspan("kinds", &arguments).succeeded()
    };
    let ran = run("inject", &["--yes"]);
    for part in [
        "cronjob kinds/web: its next Job has the change",
        "replicaset kinds/web: new pods have the change",
    ] {
        assert!(ran.messages.contains(part), "{ran:?}");
    }
    for (object, (.., path)) in read()?.iter().zip(&objects) {
        assert!(
            inject::is_injected(object.pointer(path).unwrap()),
            "{object}"
        );
    }
    let results = run("uninject", &["--yes", "--output=json"]);
    let results: serde_json::Value = serde_json::from_str(&results.output)?;
    let changes: Vec<_> = results["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["change"])
        .collect();
    assert_eq!(changes, ["removed"; 4]);
    let after = read()?;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before["spec"], after["spec"]);
    }
    Ok(())
}

fn dry_run(cluster: &Cluster) -> Outcome {
    cluster.namespace("dry")?;
    cluster.deploy("dry", "web")?;
    let before = cluster.read("dry", "deployment/web")?;
    for mode in ["server", "client"] {
        let option = format!("--dry-run={mode}");
        let ran = cluster
            .podspan("dry", &["inject", "deployment", "web", &option])
            .succeeded();
        assert!(
            ran.messages
                .ends_with("deployment dry/web: podspan is injected (dry run)\n"),
            "{ran:?}"
        );
        for line in [
            "--- deployment dry/web\n",
            "+++ deployment dry/web (changed)\n",
            "\n+      - env:\n",
            "\n+        name: podspan\n",
        ] {
            assert!(ran.output.contains(line), "{line}: {}", ran.output);
        }
        // The API server completes the container.
        assert_eq!(
            ran.output.contains("+        terminationMessagePath: "),
            mode == "server",
            "{}",
            ran.output
        );
        let removed: Vec<_> = ran
            .output
            .lines()
            .filter(|line| line.starts_with('-'))
            .collect();
        assert_eq!(removed, ["--- deployment dry/web"]);
        for noise in ["resourceVersion", "generation", "managedFields", "status"] {
            let changed = |line: &&str| line.starts_with('+') && line.contains(noise);
            assert_eq!(ran.output.lines().find(changed), None);
        }
        assert_eq!(cluster.read("dry", "deployment/web")?, before);
    }
    Ok(())
}

fn terminal(cluster: &Cluster) -> Outcome {
    cluster.namespace("terminal")?;
    cluster.deploy("terminal", "web")?;
    let before = cluster.read("terminal", "deployment/web")?;
    let refused = cluster.podspan("terminal", &["inject", "deploy/web"]);
    let refused = refused.failed(&["there is no terminal to ask for a confirmation. Add --yes"]);
    assert!(
        refused
            .output
            .contains("+++ deployment terminal/web (changed)"),
        "{refused:?}"
    );
    for answer in ["\n", "n\n", "\u{4}"] {
        let ran = cluster.podspan_on_terminal(answer, "terminal", &["inject", "deploy/web"]);
        ran.failed(&[
            "Change this object? [y/N]",
            "nothing is changed: it was not confirmed",
        ]);
    }
    assert_eq!(cluster.read("terminal", "deployment/web")?, before);
    let ran = cluster
        .podspan_on_terminal("y\n", "terminal", &["inject", "deploy/web"])
        .succeeded();
    assert!(ran.messages.contains("\x1b[32m+"), "{ran:?}");
    let after = cluster.read("terminal", "deployment/web")?;
    assert!(inject::is_injected(&after["spec"]["template"]));
    Ok(())
}

/// Before the first patch that is meant, somebody else changes the object.
const ONCE: &str = r#"#!/bin/sh
case "$*" in
*--dry-run=server*) ;;
patch*) if mkdir "$FOLDER/done" 2>/dev/null; then
    "$KUBECTL" set image deployment/web web=a.example/web:2 --namespace=moved >&2
fi ;;
esac
exec "$KUBECTL" "$@"
"#;

fn moved(cluster: &Cluster) -> Outcome {
    cluster.namespace("moved")?;
    cluster.deploy("moved", "web")?;
    let ran = cluster
        .podspan_with(ONCE, "moved", &["inject", "deploy/web", "--yes"])
        .succeeded();
    assert!(
        ran.messages
            .contains("deployment moved/web has changed meanwhile: it is read again"),
        "{ran:?}"
    );
    let template = &cluster.read("moved", "deployment/web")?["spec"]["template"];
    assert!(inject::is_injected(template));
    assert_eq!(
        template["spec"]["containers"][0]["image"],
        "a.example/web:2"
    );
    Ok(())
}

/// Before each patch somebody changes the object.
const ALWAYS: &str = r#"#!/bin/sh
case "$*" in
patch*) n=$(cat "$FOLDER/n" 2>/dev/null || echo 1); echo $((n + 1)) >"$FOLDER/n"
    "$KUBECTL" set image deployment/web web=a.example/web:$n --namespace=keeps >&2 ;;
esac
exec "$KUBECTL" "$@"
"#;

fn keeps_moving(cluster: &Cluster) -> Outcome {
    cluster.namespace("keeps")?;
    cluster.deploy("keeps", "web")?;
    let ran = cluster.podspan_with(ALWAYS, "keeps", &["inject", "deploy/web", "--yes"]);
    ran.failed(&["nothing is changed:\ndeployment keeps/web: it keeps changing meanwhile"]);
    let template = &cluster.read("keeps", "deployment/web")?["spec"]["template"];
    assert!(!inject::is_injected(template));
    Ok(())
}

/// Before the patch the object changes elsewhere, as the status of a Deployment does all the time.
const STATUS: &str = r#"#!/bin/sh
case "$*" in
patch*) "$KUBECTL" label deployment/web --overwrite at=$$ --namespace=status >&2 ;;
esac
exec "$KUBECTL" "$@"
"#;

fn status(cluster: &Cluster) -> Outcome {
    cluster.namespace("status")?;
    cluster.deploy("status", "web")?;
    let ran = cluster
        .podspan_with(STATUS, "status", &["inject", "deploy/web", "--yes"])
        .succeeded();
    assert!(!ran.messages.contains("meanwhile"), "{ran:?}");
    Ok(())
}

fn later_apply(cluster: &Cluster) -> Outcome {
    cluster.namespace("later")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("web.json");
    let mut web = deployment("later", "web");
    for image in ["example.invalid/web:1", "example.invalid/web:2"] {
        web["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        std::fs::write(&file, web.to_string())?;
        cluster
            .plane
            .kubectl(["apply".as_ref(), "-f".as_ref(), file.as_os_str()])?;
        if image.ends_with('1') {
            cluster
                .podspan("later", &["inject", "deploy/web", "--yes"])
                .succeeded();
        }
    }
    let after = cluster.read("later", "deployment/web")?;
    let pod = &after["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], "example.invalid/web:2");
    assert_eq!(pod["initContainers"][0]["name"], "podspan");
    Ok(())
}
