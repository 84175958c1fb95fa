//! Roles, tokens and certificates.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use testbed::kubernetes::{Authority, ControlPlane, Error};

use crate::{Outcome, eventually, kubeconfig_with, manifest, refusal};

/// The shipped bindings, one after the other, for the service account they all name.
pub(crate) fn roles(control_plane: &ControlPlane) -> Outcome {
    control_plane.create_namespace("sensors")?;
    let token = control_plane.request_token("default", "default", Duration::from_mins(10))?;
    let kubeconfig = kubeconfig_with(control_plane, "roles", &token)?;
    let run = |line: &str| control_plane.kubectl_as(&kubeconfig, line.split(' '), "");
    let bind = |verb: &str, path: &str| {
        let folder = manifest(path);
        control_plane
            .kubectl([verb.as_ref(), "-k".as_ref(), folder.as_os_str()])
            .map(drop)
    };
    let [own, other, all] = [
        "get pods",
        "get pods --namespace=sensors",
        "get pods --all-namespaces",
    ];
    for line in [own, other, all] {
        let refused = refusal(run(line));
        assert!(
            refused.contains("system:serviceaccount:default:default"),
            "{refused}"
        );
        assert!(
            refused.contains("cannot list resource \"pods\""),
            "{refused}"
        );
    }

    bind("apply", "rbac/own-namespace")?;
    eventually("the own namespace opens", || run(own).is_ok());
    run("get --raw=/api/v1/namespaces/default/pods?watch=1&timeoutSeconds=1")?;
    refused(
        run,
        &[
            other,
            all,
            "get pod any",
            "delete pod any",
            "get secrets",
            "get nodes",
        ],
    );
    bind("delete", "rbac/own-namespace")?;
    eventually("it closes", || run(own).is_err());

    bind("apply", "rbac/other-namespace")?;
    eventually("the other namespace opens", || run(other).is_ok());
    run("get --raw=/api/v1/namespaces/sensors/pods?watch=1&timeoutSeconds=1")?;
    refused(run, &[own, all, "get secrets --namespace=sensors"]);
    bind("delete", "rbac/other-namespace")?;
    eventually("it closes", || run(other).is_err());

    bind("apply", "rbac/all-namespaces")?;
    eventually("all namespaces open", || run(all).is_ok());
    run("get --raw=/api/v1/pods?watch=1&timeoutSeconds=1")?;
    refused(run, &["get secrets", "get configmaps", "get nodes"]);
    bind("delete", "rbac/all-namespaces")?;
    eventually("they close", || run(all).is_err());

    bind("apply", "rbac/view")?;
    eventually("the old system's binding opens all", || run(all).is_ok());
    refused(run, &["get secrets", "get nodes"]);
    Ok(())
}

/// Asserts that each of these is forbidden.
fn refused(run: impl Fn(&str) -> Result<String, Error>, lines: &[&str]) {
    for line in lines {
        let refused = refusal(run(line));
        assert!(refused.contains("Forbidden"), "{line}: {refused}");
    }
}

pub(crate) fn short_tokens(control_plane: &ControlPlane) -> Outcome {
    let sign = |lifetime| control_plane.sign_token("default", "default", lifetime);
    let show = |token: &str| {
        let kubeconfig = kubeconfig_with(control_plane, "short-tokens", token)?;
        control_plane.kubectl_as(&kubeconfig, ["auth", "whoami"], "")
    };
    let token = control_plane.request_token("default", "default", Duration::from_mins(10))?;
    assert!(show(&token)?.contains("system:serviceaccount:default:default"));
    let short = sign(Duration::from_secs(5))?;
    assert!(show(&short)?.contains("system:serviceaccount:default:default"));
    // The API server caches an accepted token for 10 s.
    eventually("it expires", || show(&short).is_err());
    for expired in [short, sign(Duration::ZERO)?] {
        let refused = refusal(show(&expired));
        assert!(refused.contains("Unauthorized"), "{refused}");
    }
    let missing = control_plane.sign_token("default", "nobody", Duration::from_mins(1));
    assert!(refusal(missing).contains("not found"));
    let too_short = control_plane.request_token("default", "default", Duration::from_secs(5));
    assert!(refusal(too_short).contains("10 minutes"));
    Ok(())
}

pub(crate) fn pod_credentials(control_plane: &ControlPlane) -> Outcome {
    let folder = control_plane.folder().join("serviceaccount");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    control_plane.write_pod_credentials(&folder, "shop", "first")?;
    assert_eq!(
        (read("token"), read("namespace")),
        ("first".to_owned(), "shop".to_owned())
    );
    assert!(read("ca.crt").contains("BEGIN CERTIFICATE"));
    let before = fs::read_link(folder.join("..data"))?;
    control_plane.write_pod_credentials(&folder, "shop", "second")?;
    assert_eq!(read("token"), "second");
    assert_ne!(fs::read_link(folder.join("..data"))?, before);
    let names: BTreeSet<_> = fs::read_dir(&folder)?
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(
        names.len(),
        5,
        "the old folder and the temporary link are gone: {names:?}"
    );
    Ok(())
}

pub(crate) fn wrong_ca(control_plane: &ControlPlane) -> Outcome {
    let other = control_plane.folder().join("other-ca.crt");
    fs::write(&other, Authority::new("other")?.certificate_pem())?;
    let flag = format!("--certificate-authority={}", other.display());
    let refused = refusal(control_plane.kubectl([flag.as_str(), "get", "pods"]));
    assert!(refused.contains("unknown authority"), "{refused}");
    Ok(())
}
