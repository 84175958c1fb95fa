//! Tokens, certificates and addresses: a wrong one is named, and a corrected one is detected.

use std::fs;
use std::time::Duration;

use discovery::{ClientSource, Scope};
use libtest_mimic::Failed;
use serde_json::{Value, json};
use testbed::kubernetes::{Authority, ControlPlane};

use crate::finder::{Finder, settings};
use crate::pods::sensor;
use crate::{Admin, Outcome, credentials, credentials_folder, in_cluster, namespace};

pub(crate) fn expired_token(control_plane: &ControlPlane) -> Outcome {
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
    let expired = finder.until_logged(&["WARN", "(401)", "last known sensors stay"]);
    assert!(expired.contains("credentials-tokens/token"), "{expired}");
    admin.run(pods.create(&sensor("b", 2)))?;
    renew(Duration::from_mins(10))?;
    finder.until(&["10.1.0.1:4789", "10.1.0.2:4789"]);
    finder.until_logged(&["INFO", "answers again"]);
    assert_eq!(finder.times_logged("(401)"), 1, "{}", finder.log());
    finder.assert_never_empty_after(0);
    Ok(())
}

pub(crate) fn wrong_ca(control_plane: &ControlPlane) -> Outcome {
    let source = namespace(control_plane, "wrong-ca")?;
    let admin = Admin::new(control_plane);
    admin.run(admin.pods("wrong-ca").create(&sensor("a", 1)))?;
    let ca = credentials_folder(control_plane, "wrong-ca").join("ca.crt");
    let correct = fs::read(&ca)?;
    fs::write(&ca, Authority::new("other")?.certificate_pem())?;
    let finder = Finder::start(settings(Scope::Own), source);
    let log = finder.until_logged(&["WARN", "certificate", "credentials-wrong-ca/ca.crt"]);
    assert!(log.contains("UnknownIssuer"), "{log}");
    fs::write(&ca, correct)?;
    finder.until(&["10.1.0.1:4789"]);
    assert_eq!(finder.times_logged("certificate of the API server"), 1);
    Ok(())
}

pub(crate) fn late_credentials(control_plane: &ControlPlane) -> Outcome {
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
    assert!(finder.lists().is_empty(), "no list yet");
    credentials(control_plane, "late")?;
    finder.until(&[]);
    Ok(())
}

/// The administrator's kubeconfig with another server in it.
fn elsewhere(control_plane: &ControlPlane, name: &str, server: &str) -> Result<Finder, Failed> {
    let admin = fs::read(control_plane.admin_kubeconfig())?;
    let mut kubeconfig: Value = serde_json::from_slice(&admin)?;
    kubeconfig["clusters"][0]["cluster"]["server"] = json!(server);
    let path = control_plane.folder().join(format!("{name}.kubeconfig"));
    fs::write(&path, kubeconfig.to_string())?;
    let scope = Scope::Namespace("default".to_owned());
    Ok(Finder::start(
        settings(scope),
        ClientSource::Kubeconfig(Some(path)),
    ))
}

/// A missing or wrong prefix of a reverse proxy: the API server has no such path.
pub(crate) fn wrong_path(control_plane: &ControlPlane) -> Outcome {
    let server = format!("https://{}/elsewhere", control_plane.address());
    let finder = elsewhere(control_plane, "wrong-path", &server)?;
    finder.until_logged(&["WARN", "answers 404", "/api/v1", &server]);
    Ok(())
}

/// A name that is not a valid label value. The agent refuses it before discovery gets it; the API server
/// answers with a 400.
pub(crate) fn bad_request(control_plane: &ControlPlane) -> Outcome {
    let source = namespace(control_plane, "bad-request")?;
    let mut settings = settings(Scope::Own);
    "not a label".clone_into(&mut settings.name);
    let finder = Finder::start(settings, source);
    // The API server refuses it as a streaming list and as a list in pages.
    finder.until_logged(&["WARN", "does not understand", "found 'a', expected"]);
    assert!(finder.lists().is_empty());
    Ok(())
}

/// No process listens on port 1.
pub(crate) fn closed_port(control_plane: &ControlPlane) -> Outcome {
    let finder = elsewhere(control_plane, "closed-port", "https://127.0.0.1:1")?;
    finder.until_logged(&["WARN", "127.0.0.1:1", "cannot be reached", "network policy"]);
    Ok(())
}

/// The network has no resolver, and no resolver has a name below `.invalid` (RFC 6761).
pub(crate) fn unknown_name(control_plane: &ControlPlane) -> Outcome {
    let finder = elsewhere(control_plane, "unknown-name", "https://api.invalid:6443")?;
    finder.until_logged(&["WARN", "api.invalid", "cannot be resolved", "dnsPolicy"]);
    Ok(())
}

pub(crate) fn no_kubeconfig(control_plane: &ControlPlane) -> Outcome {
    let path = control_plane.folder().join("later.kubeconfig");
    let source = ClientSource::Kubeconfig(Some(path.clone()));
    let scope = Scope::Namespace("no-such-pods".to_owned());
    let finder = Finder::start(settings(scope), source);
    finder.until_logged(&["WARN", "later.kubeconfig", "KUBECONFIG"]);
    fs::copy(control_plane.admin_kubeconfig(), path)?;
    finder.until(&[]);
    Ok(())
}
