//! What `keys` prints, in an API server.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use tempfile::TempDir;

use crate::Test;
use crate::fixture::{Cluster, Outcome};

pub(crate) const TESTS: &[Test] = &[
    ("keys_are_created_once_and_rotated_in_three_steps", rotation),
    (
        "a_step_from_a_secret_that_has_changed_meanwhile_is_refused",
        conflict,
    ),
];

/// Files with Secrets.
struct Files<'c> {
    cluster: &'c Cluster,
    folder: TempDir,
}

impl<'c> Files<'c> {
    fn new(cluster: &'c Cluster) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        Ok(Self { cluster, folder })
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failed> {
        let path = self.folder.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// What `keys` prints.
    fn keys(&self, name: &str, namespace: &str, options: &[&str]) -> Result<PathBuf, Failed> {
        let arguments = [&["keys", "--quiet"], options].concat();
        let ran = self.cluster.podspan(namespace, &arguments).succeeded();
        assert_eq!(ran.messages, "");
        self.write(name, &ran.output)
    }

    /// The sensor's Secret, as kubectl prints it.
    fn stored(&self, name: &str, namespace: &str) -> Result<String, Failed> {
        let of = format!("--namespace={namespace}");
        let secret = ["get", "secret", "podspan-receive", &of, "--output=yaml"];
        let path = self.write(name, &self.cluster.plane.kubectl(secret)?)?;
        Ok(path.display().to_string())
    }

    fn kubectl(&self, verb: &str, file: &Path) -> Result<String, Failed> {
        let arguments = [OsStr::new(verb), OsStr::new("-f"), file.as_os_str()];
        Ok(self.cluster.plane.kubectl(arguments)?)
    }
}

fn entry(cluster: &Cluster, namespace: &str, name: &str, key: &str) -> Result<String, Failed> {
    let secret = cluster.read(namespace, &format!("secret/{name}"))?;
    Ok(secret["data"][key].as_str().unwrap_or_default().to_owned())
}

fn rotation(cluster: &Cluster) -> Outcome {
    cluster.namespace("keys-sensors")?;
    cluster.namespace("keys-shop")?;
    let files = Files::new(cluster)?;
    let new = files.keys("new", "keys-shop", &["--sensor-namespace=keys-sensors"])?;
    files.kubectl("create", &new)?;
    let again = files.keys("again", "keys-shop", &["--sensor-namespace=keys-sensors"])?;
    assert!(
        files.kubectl("create", &again).is_err(),
        "keys that are there are not replaced"
    );

    let of_podspans = || entry(cluster, "keys-shop", "podspan-tunnel", "preshared-key");
    let of_sensor = || entry(cluster, "keys-sensors", "podspan-receive", "preshared-keys");
    let (old, one) = (of_podspans()?, of_sensor()?);
    let stored = files.stored("one", "keys-sensors")?;
    let rotated = files.keys("rotated", "", &["--rotate", "-f", &stored])?;
    files.kubectl("replace", &rotated)?;
    assert!(of_sensor()?.len() > one.len());

    let stored = files.stored("two", "keys-sensors")?;
    let given = files.keys("given", "keys-shop", &["-f", &stored])?;
    files.kubectl("replace", &given)?;
    assert_ne!(of_podspans()?, old);

    let finished = files.keys("finished", "", &["--finish", "-f", &stored])?;
    files.kubectl("replace", &finished)?;
    assert!(of_sensor()?.len() == one.len() && of_sensor()? != one);
    Ok(())
}

fn conflict(cluster: &Cluster) -> Outcome {
    cluster.namespace("keys-conflict")?;
    let files = Files::new(cluster)?;
    let new = files.keys(
        "new",
        "keys-conflict",
        &["--sensor-namespace=keys-conflict"],
    )?;
    files.kubectl("create", &new)?;
    let stored = files.stored("one", "keys-conflict")?;
    // Two people begin at the same time.
    let [mine, theirs] =
        ["mine", "theirs"].map(|name| files.keys(name, "", &["--rotate", "-f", &stored]));
    files.kubectl("replace", &theirs?)?;
    let keys = || {
        entry(
            cluster,
            "keys-conflict",
            "podspan-receive",
            "preshared-keys",
        )
    };
    let before = keys()?;
    let mine = mine?;
    for verb in ["replace", "apply"] {
        assert!(files.kubectl(verb, &mine).is_err(), "{verb}");
    }
    assert_eq!(keys()?, before);
    Ok(())
}
