//! RBAC: the shipped roles are enough, a missing right is named, and the printed YAML is enough to
//! grant it.

use discovery::Scope;
use libtest_mimic::Failed;
use testbed::kubernetes::ControlPlane;

use crate::finder::{Finder, settings};
use crate::pods::{sensor, with_verbs};
use crate::{Admin, Outcome, credentials, grant, manifest};

/// For each scope: discovery finds nothing without rights, and the sensor with the shipped manifest
/// only, or with the printed YAML only. Each is applied without a change.
pub(crate) fn roles(control_plane: &ControlPlane) -> Outcome {
    let source = credentials(control_plane, "default")?;
    let admin = Admin::new(control_plane);
    control_plane.create_namespace("sensors")?;
    for (path, scope, at, kind) in [
        ("rbac/own-namespace", Scope::Own, "default", "Role"),
        (
            "rbac/other-namespace",
            Scope::Namespace("sensors".to_owned()),
            "sensors",
            "Role",
        ),
        ("rbac/all-namespaces", Scope::All, "sensors", "ClusterRole"),
    ] {
        let mut settings = settings(scope);
        settings.name = format!("roles-{kind}-{at}").to_lowercase();
        let pods = admin.pods(at);
        let pod = sensor(&settings.name, 1).label("run", &settings.name);
        let found = "10.1.0.1:4789";
        admin.run(pods.create(&pod))?;

        let finder = Finder::start(settings.clone(), source.clone());
        let missing = [
            "WARN",
            "(403)",
            "the verb watch is missing",
            "the service account default of namespace default",
            &format!("run={}", settings.name),
        ];
        let log = finder.until_logged(&missing);
        assert!(log.contains(&format!("\nkind: {kind}Binding\n")), "{log}");
        let yaml = printed(&log)?;
        assert!(finder.lists().is_empty(), "{}", finder.log());
        let folder = manifest(path);
        let shipped =
            |verb: &str| control_plane.kubectl([verb.as_ref(), "-k".as_ref(), folder.as_os_str()]);
        shipped("apply")?;
        finder.until(&[found]);
        admin.run(pods.delete(&settings.name))?;
        finder.until(&[]);
        assert_eq!(finder.times_logged("WARN discovery::journal: discovery"), 1);
        drop(finder);
        shipped("delete")?;

        admin.run(pods.create(&pod))?;
        let finder = Finder::start(settings, source.clone());
        finder.until_logged(&missing);
        control_plane.apply_text(&yaml)?;
        finder.until(&[found]);
        finder.until_logged(&["INFO", "watching the pods"]);
        let admin = control_plane.admin_kubeconfig();
        control_plane.kubectl_as(&admin, ["delete", "-f", "-"], &yaml)?;
    }
    Ok(())
}

/// The Role loses a verb while discovery runs. `list` is not needed where lists stream. Without
/// `watch` the next watch fails, and the sensors stay in use.
pub(crate) fn removed_verbs(control_plane: &ControlPlane) -> Outcome {
    let source = with_verbs(control_plane, "verbs", &["list", "watch"])?;
    let admin = Admin::new(control_plane);
    let pods = admin.pods("verbs");
    admin.run(pods.create(&sensor("a", 1)))?;
    let finder = Finder::start(settings(Scope::Own), source.clone());
    finder.until(&["10.1.0.1:4789"]);
    grant(control_plane, "verbs", &["list"])?;
    let log = finder.until_logged(&[
        "WARN",
        "last known sensors stay",
        "(403)",
        "the verb watch is missing",
        "service account default of namespace verbs",
    ]);
    // A podspan that starts now finds nothing.
    let late = Finder::start(settings(Scope::Own), source);
    late.until_logged(&["WARN", "(403)", "the verb watch is missing"]);
    assert!(late.lists().is_empty(), "{}", late.log());
    drop(late);
    admin.run(pods.create(&sensor("b", 2)))?;
    grant(control_plane, "verbs", &["watch"])?;
    finder.until(&["10.1.0.1:4789", "10.1.0.2:4789"]);
    finder.until_logged(&["INFO", "answers again"]);
    grant(control_plane, "verbs", &["get"])?;
    finder.until_times_logged(2, "the verb watch is missing");
    control_plane.apply_text(&printed(&log)?)?;
    admin.run(pods.delete("a"))?;
    finder.until(&["10.1.0.2:4789"]);
    finder.until_times_logged(2, "answers again");
    assert_eq!(finder.times_logged("(403)"), 2, "{}", finder.log());
    finder.assert_never_empty_after(0);
    Ok(())
}

/// The YAML that the log prints.
pub(crate) fn printed(log: &str) -> Result<String, Failed> {
    let (_, yaml) = log.split_once('\n').ok_or("no YAML")?;
    // The next line of the log begins with its year.
    let lines = yaml.lines().take_while(|line| !line.starts_with("20"));
    Ok(lines.flat_map(|line| [line, "\n"]).collect())
}

pub(crate) fn no_list(control_plane: &ControlPlane) -> Outcome {
    let source = with_verbs(control_plane, "no-list", &["watch"])?;
    let admin = Admin::new(control_plane);
    let finder = Finder::start(settings(Scope::Own), source);
    finder.until(&[]);
    admin.run(admin.pods("no-list").create(&sensor("a", 1)))?;
    finder.until(&["10.1.0.1:4789"]);
    assert_eq!(finder.times_logged("(403)"), 0, "{}", finder.log());
    Ok(())
}
