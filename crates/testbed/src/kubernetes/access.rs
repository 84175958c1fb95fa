//! The access of clients: kubeconfigs, namespaces, service accounts and their tokens.
//!
//! A pod's credentials are a folder that the kubelet fills: `token`, `ca.crt` and `namespace` are
//! links into `..data`, itself a link to a folder with a time in its name. A new token is written to
//! a new such folder, and `..data` is renamed onto it, so that a reader sees either the old or the new
//! set. [`ControlPlane::write_pod_credentials`] does the same
//! (`k8s.io/kubernetes/pkg/volume/util/atomic_writer.go`).

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use super::error::Error;
use super::pki::Subject;

impl ControlPlane {
    /// The kubeconfig of an administrator (client certificate, `system:masters`).
    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.folder().join("admin.kubeconfig")
    }

    /// The program kubectl, for tests of what kubectl starts.
    #[must_use]
    pub fn kubectl_program(&self) -> PathBuf {
        self.binaries.path("kubectl")
    }

    /// A client with the administrator's rights, bound to the tokio runtime it is called in.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn client(&self) -> Result<Client, Error> {
        let kubeconfig = Kubeconfig::read_from(self.admin_kubeconfig())?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        Ok(Client::try_from(config)?)
    }

    /// Creates a namespace with its `default` service account, which pods need and which otherwise
    /// only kube-controller-manager makes. One that exists is left as it is.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn create_namespace(&self, name: &str) -> Result<(), Error> {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
        });
        self.apply(&namespace)?;
        self.create_service_account(name, "default")
    }

    /// Creates a service account. One that exists is left as it is.
    ///
    /// # Errors
    /// When the API server refuses, or there is no such namespace.
    pub fn create_service_account(&self, namespace: &str, name: &str) -> Result<(), Error> {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": namespace},
        });
        self.apply(&account)
    }

    /// Applies an object as administrator, on the server's side.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn apply(&self, object: &Value) -> Result<(), Error> {
        let arguments = ["apply", "--server-side", "-f", "-"];
        self.kubectl_as(&self.admin_kubeconfig(), arguments, &object.to_string())
            .map(drop)
    }

    /// Builds the kustomization in `folder`, which is for the namespace `default`, for another one.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn kustomize(&self, folder: &Path, namespace: &str) -> Result<String, Error> {
        let built = self.kubectl(["kustomize".as_ref(), folder.as_os_str()])?;
        Ok(built.replace("namespace: default", &format!("namespace: {namespace}")))
    }

    /// Applies YAML as administrator, as `kubectl apply -f` does.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn apply_text(&self, yaml: &str) -> Result<(), Error> {
        self.kubectl_as(&self.admin_kubeconfig(), ["apply", "-f", "-"], yaml)
            .map(drop)
    }

    /// A token of a service account from the API server itself (`kubectl create token`).
    ///
    /// # Errors
    /// When there is no such service account, or `lifetime` is below the API server's minimum of
    /// ten minutes: [`Self::sign_token`] makes shorter ones.
    pub fn request_token(
        &self,
        namespace: &str,
        service_account: &str,
        lifetime: Duration,
    ) -> Result<String, Error> {
        let namespace = format!("--namespace={namespace}");
        let lifetime = format!("--duration={}s", lifetime.as_secs());
        let token = self.kubectl(["create", "token", service_account, &namespace, &lifetime])?;
        Ok(token.trim_end().to_owned())
    }

    /// A token of a service account that is signed here and not by the API server, with any
    /// lifetime, zero included. The API server caches an accepted token for 10 s.
    ///
    /// # Errors
    /// When there is no such service account.
    pub fn sign_token(
        &self,
        namespace: &str,
        service_account: &str,
        lifetime: Duration,
    ) -> Result<String, Error> {
        let of = format!("--namespace={namespace}");
        let uid = "-o=jsonpath={.metadata.uid}";
        let uid = self.kubectl(["get", "serviceaccount", service_account, &of, uid])?;
        self.token_key.sign(
            &Subject {
                namespace,
                service_account,
                uid: &uid,
            },
            lifetime,
        )
    }

    /// Writes a kubeconfig for a client that reads its token from `token`, a file which may be
    /// replaced while the client runs. `name` becomes part of the file's name.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_token_kubeconfig(&self, name: &str, token: &Path) -> Result<PathBuf, Error> {
        self.write_kubeconfig(name, &json!({"tokenFile": token}))
    }

    /// Writes, or renews, a pod's credentials as the kubelet does, for the folder that a pod sees as
    /// `/var/run/secrets/kubernetes.io/serviceaccount`.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn write_pod_credentials(
        &self,
        folder: &Path,
        namespace: &str,
        token: &str,
    ) -> Result<(), Error> {
        let ca = self.folder().join("ca.crt");
        let write = || {
            fs::create_dir_all(folder)?;
            let old = fs::read_link(folder.join("..data")).ok();
            let data = tempfile::Builder::new()
                .prefix("..")
                .tempdir_in(folder)?
                .keep();
            fs::write(data.join("token"), token)?;
            fs::write(data.join("namespace"), namespace)?;
            fs::copy(&ca, data.join("ca.crt"))?;
            symlink(
                data.file_name().unwrap_or_default(),
                folder.join("..data_tmp"),
            )?;
            fs::rename(folder.join("..data_tmp"), folder.join("..data"))?;
            for name in ["token", "namespace", "ca.crt"] {
                match symlink(Path::new("..data").join(name), folder.join(name)) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(error);
                    }
                    _ => {}
                }
            }
            old.map_or(Ok(()), |old| fs::remove_dir_all(folder.join(old)))
        };
        write().map_err(Error::io(format!(
            "writing a pod's credentials to {}",
            folder.display()
        )))
    }

    /// Writes the kubeconfig of a client whose certificate is in the folder under the same name.
    pub(super) fn write_certificate_kubeconfig(&self, name: &str) -> Result<(), Error> {
        let user = json!({
            "client-certificate": self.folder().join(format!("{name}.crt")),
            "client-key": self.folder().join(format!("{name}.key")),
        });
        self.write_kubeconfig(name, &user).map(drop)
    }

    /// A kubeconfig is YAML, and JSON is YAML.
    fn write_kubeconfig(&self, name: &str, user: &Value) -> Result<PathBuf, Error> {
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testbed", "cluster": {
                "server": format!("https://{}", self.address()),
                "certificate-authority": self.folder().join("ca.crt"),
            }}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": name}}],
            "current-context": "testbed",
        });
        self.write(&format!("{name}.kubeconfig"), &kubeconfig.to_string())
    }
}
