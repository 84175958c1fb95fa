//! Rights, tokens, certificates and addresses: what is wrong is named, and its end is noticed.

use std::fs;
use std::time::Duration;

use discovery::{ClientSource, Scope};
use libtest_mimic::Failed;
use serde_json::{Value, json};
use testbed::kubernetes::{Authority, ControlPlane};

use crate::finder::{Finder, settings};
use crate::pods::{sensor, shipped, with_verbs};
use crate::{Admin, Outcome, credentials, credentials_folder, in_cluster, manifest, namespace};

pub(crate) fn shipped_role(control_plane: &mut ControlPlane) -> Outcome {
    shipped(control_plane)?;
    let source = credentials(control_plane, "default")?;
    let admin = Admin::new(control_plane);
    let finder = Finder::start(settings(Scope::Own), source);
    finder.until(&[]);
    admin.run(admin.pods("default").create(&sensor("a", 1)))?;
    finder.until(&["10.1.0.1:4789"]);
    admin.run(admin.pods("default").delete("a"))?;
    finder.until(&[]);
    assert_eq!(finder.times_logged("WARN discovery::journal: discovery"), 0);
    Ok(())
}

pub(crate) fn no_watch(control_plane: &mut ControlPlane) -> Outcome {
    let source = with_verbs(control_plane, "no-watch", &["list"])?;
    let admin = Admin::new(control_plane);
    admin.run(admin.pods("no-watch").create(&sensor("a", 1)))?;
    let finder = Finder::start(settings(Scope::Own), source);
    let log = finder.until_logged(&[
        "WARN",
        "403",
        "the verb watch is missing",
        "service account default of namespace no-watch",
    ]);
    apply_from(control_plane, &log)?;
    finder.until(&["10.1.0.1:4789"]);
    assert_eq!(finder.times_logged("403"), 1, "{}", finder.log());
    Ok(())
}

/// Applies the YAML that the log prints, as an operator would.
pub(crate) fn apply_from(control_plane: &ControlPlane, log: &str) -> Outcome {
    let (_, yaml) = log.split_once('\n').ok_or("no YAML")?;
    let lines = yaml.lines().take_while(|line| !line.starts_with("20"));
    let yaml: String = lines.flat_map(|line| [line, "\n"]).collect();
    let admin = control_plane.admin_kubeconfig();
    control_plane.kubectl_as(&admin, ["apply", "-f", "-"], &yaml)?;
    Ok(())
}

pub(crate) fn no_list(control_plane: &mut ControlPlane) -> Outcome {
    let source = with_verbs(control_plane, "no-list", &["watch"])?;
    let admin = Admin::new(control_plane);
    let finder = Finder::start(settings(Scope::Own), source);
    finder.until(&[]);
    admin.run(admin.pods("no-list").create(&sensor("a", 1)))?;
    finder.until(&["10.1.0.1:4789"]);
    assert_eq!(finder.times_logged("403"), 0, "{}", finder.log());
    Ok(())
}

pub(crate) fn all_namespaces(control_plane: &mut ControlPlane) -> Outcome {
    shipped(control_plane)?;
    let source = credentials(control_plane, "default")?;
    let finder = Finder::start(settings(Scope::All), source);
    let log = finder.until_logged(&["WARN", "403", "in all namespaces"]);
    assert!(log.contains("kind: ClusterRoleBinding"), "{log}");
    let folder = manifest("rbac/all-namespaces");
    control_plane.kubectl(["apply".as_ref(), "-k".as_ref(), folder.as_os_str()])?;
    finder.until_logged(&["INFO", "watching", "in all namespaces"]);
    control_plane.kubectl(["delete".as_ref(), "-k".as_ref(), folder.as_os_str()])?;
    Ok(())
}

pub(crate) fn expired_token(control_plane: &mut ControlPlane) -> Outcome {
    let source = namespace(control_plane, "tokens")?;
    let folder = credentials_folder(control_plane, "tokens");
    let renew = |lifetime| -> Outcome {
        let token = control_plane.sign_token("tokens", "default", lifetime)?;
        control_plane.write_pod_credentials(&folder, "tokens", &token)?;
        Ok(())
    };
    let admin = Admin::new(control_plane);
    let pods = admin.pods("tokens");
    admin.run(pods.create(&sensor("a", 1)))?;
    renew(Duration::from_secs(5))?;
    let finder = Finder::start(settings(Scope::Own), source);
    finder.until(&["10.1.0.1:4789"]);
    let expired = finder.until_logged(&["WARN", "401", "last known sensors stay"]);
    assert!(expired.contains("credentials-tokens/token"), "{expired}");
    admin.run(pods.create(&sensor("b", 2)))?;
    renew(Duration::from_mins(10))?;
    finder.until(&["10.1.0.1:4789", "10.1.0.2:4789"]);
    finder.until_logged(&["INFO", "answers again"]);
    assert_eq!(finder.times_logged("401"), 1, "{}", finder.log());
    finder.never_empty_after(0);
    Ok(())
}

pub(crate) fn wrong_ca(control_plane: &mut ControlPlane) -> Outcome {
    let source = namespace(control_plane, "wrong-ca")?;
    let admin = Admin::new(control_plane);
    admin.run(admin.pods("wrong-ca").create(&sensor("a", 1)))?;
    let ca = credentials_folder(control_plane, "wrong-ca").join("ca.crt");
    let right = fs::read(&ca)?;
    fs::write(&ca, Authority::new("other")?.certificate_pem())?;
    let finder = Finder::start(settings(Scope::Own), source);
    let log = finder.until_logged(&["WARN", "certificate", "credentials-wrong-ca/ca.crt"]);
    assert!(log.contains("UnknownIssuer"), "{log}");
    fs::write(&ca, right)?;
    finder.until(&["10.1.0.1:4789"]);
    assert_eq!(finder.times_logged("certificate of the API server"), 1);
    Ok(())
}

pub(crate) fn late_credentials(control_plane: &mut ControlPlane) -> Outcome {
    control_plane.create_namespace("late")?;
    crate::grant(control_plane, "late", &["list", "watch"])?;
    let folder = credentials_folder(control_plane, "late");
    let source = in_cluster(control_plane.address().port(), folder);
    let finder = Finder::start(settings(Scope::Own), source);
    finder.until_logged(&[
        "WARN",
        "credentials-late/token",
        "automountServiceAccountToken",
    ]);
    assert!(finder.views().is_empty(), "nothing is known yet");
    credentials(control_plane, "late")?;
    finder.until(&[]);
    Ok(())
}

pub(crate) fn nowhere(control_plane: &mut ControlPlane) -> Outcome {
    let admin: Value = serde_json::from_slice(&fs::read(control_plane.admin_kubeconfig())?)?;
    let at = |server: &str| -> Result<Finder, Failed> {
        let mut kubeconfig = admin.clone();
        kubeconfig["clusters"][0]["cluster"]["server"] = json!(server);
        let name = format!("nowhere-{}.kubeconfig", server.len());
        let path = control_plane.folder().join(name);
        fs::write(&path, kubeconfig.to_string())?;
        let scope = Scope::Namespace("default".to_owned());
        Ok(Finder::start(
            settings(scope),
            ClientSource::Kubeconfig(Some(path)),
        ))
    };
    let address = control_plane.address();
    at(&format!("https://{address}/elsewhere"))?.until_logged(&["WARN", "404", "/api/v1"]);
    // Nobody listens on port 1. A name that is not known is left to a unit test: asking for one would
    // leave this machine.
    at("https://127.0.0.1:1")?.until_logged(&["WARN", "127.0.0.1:1", "cannot be reached"]);
    Ok(())
}
