//! The way to the cluster: the `kubectl` of `PATH`.
//!
//! In: the options that kubectl has too, and arguments. Out: what kubectl prints. So contexts, proxies and
//! authentication plugins work as in kubectl, and this program has no TLS. `kubectl` does not tell a plugin where
//! it is, so this is the first one of `PATH`, which is also the one that started the plugin.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::{Command, Stdio};

use clap::Args;
use thiserror::Error;

/// Why kubectl gave no answer.
#[derive(Debug, Error)]
pub enum Error {
    #[error(
        "cannot run kubectl: {0}. podspan reaches the cluster through the kubectl of PATH: install it, or add \
         its folder to PATH"
    )]
    Start(io::Error),
    #[error("kubectl {verb} failed; its reason is above")]
    Told { verb: String },
    #[error("{}", text.trim_end())]
    Failed { text: String },
    #[error("kubectl {verb} printed something else than JSON: {error}")]
    NotJson {
        verb: String,
        error: serde_json::Error,
    },
}

/// Options of kubectl, which are handed on as they are.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of kubectl")]
pub(crate) struct Connection {
    /// The namespace
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// Who asks which API server.
#[derive(Debug, Clone, Default, Args)]
struct Access {
    /// The kubeconfig file
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<OsString>,
    /// The context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    context: Option<OsString>,
    /// The cluster of the kubeconfig
    #[arg(long, value_name = "NAME")]
    cluster: Option<OsString>,
    /// The user of the kubeconfig
    #[arg(long, value_name = "NAME")]
    user: Option<OsString>,
    /// The user to act as
    #[arg(long = "as", value_name = "NAME")]
    act_as: Option<OsString>,
    /// A group to act as; can be given several times
    #[arg(long, value_name = "NAME")]
    as_group: Vec<OsString>,
    /// The UID to act as
    #[arg(long, value_name = "UID")]
    as_uid: Option<OsString>,
    /// The address of the API server
    #[arg(short, long, value_name = "URL")]
    server: Option<OsString>,
    /// The bearer token
    #[arg(long)]
    token: Option<OsString>,
    /// The file with the certificate authority of the API server
    #[arg(long, value_name = "FILE")]
    certificate_authority: Option<OsString>,
    /// The name in the certificate of the API server
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<OsString>,
    /// The file with the client's certificate
    #[arg(long, value_name = "FILE")]
    client_certificate: Option<OsString>,
    /// The file with the client's key
    #[arg(long, value_name = "FILE")]
    client_key: Option<OsString>,
    /// Do not check the certificate of the API server
    #[arg(long)]
    insecure_skip_tls_verify: bool,
    /// How long one request may take, such as 10s
    #[arg(long, value_name = "TIME")]
    request_timeout: Option<OsString>,
}

impl Access {
    fn arguments(&self) -> Vec<OsString> {
        let one = [
            ("--kubeconfig=", &self.kubeconfig),
            ("--context=", &self.context),
            ("--cluster=", &self.cluster),
            ("--user=", &self.user),
            ("--as=", &self.act_as),
            ("--as-uid=", &self.as_uid),
            ("--server=", &self.server),
            ("--token=", &self.token),
            ("--certificate-authority=", &self.certificate_authority),
            ("--tls-server-name=", &self.tls_server_name),
            ("--client-certificate=", &self.client_certificate),
            ("--client-key=", &self.client_key),
            ("--request-timeout=", &self.request_timeout),
        ];
        let option = |name: &str, value: &OsStr| {
            let mut option = OsString::from(name);
            option.push(value);
            option
        };
        let one = one
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let groups = self.as_group.iter().map(|group| ("--as-group=", group));
        let skip = self
            .insecure_skip_tls_verify
            .then(|| "--insecure-skip-tls-verify".into());
        one.chain(groups)
            .map(|(name, value)| option(name, value))
            .chain(skip)
            .collect()
    }
}

impl Connection {
    /// What kubectl prints. Its standard error is this program's, so that authentication plugins can ask.
    pub(crate) fn ask(&self, arguments: &[OsString]) -> Result<Vec<u8>, Error> {
        let output = self.command(arguments).stderr(Stdio::inherit()).output();
        let output = output.map_err(Error::Start)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(Error::Told {
            verb: verb(arguments),
        })
    }

    /// The same as JSON.
    pub(crate) fn ask_json(&self, arguments: &[OsString]) -> Result<serde_json::Value, Error> {
        parsed(arguments, &self.ask(arguments)?)
    }

    /// The JSON that kubectl prints; what it says when it fails is the error.
    pub(crate) fn try_json(&self, arguments: &[OsString]) -> Result<serde_json::Value, Error> {
        parsed(arguments, &self.attempt(arguments)?)
    }

    /// What kubectl prints; what it says when it fails is the error.
    pub(crate) fn attempt(&self, arguments: &[OsString]) -> Result<Vec<u8>, Error> {
        let output = self.command(arguments).output().map_err(Error::Start)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Error::Failed { text })
    }

    fn command(&self, arguments: &[OsString]) -> Command {
        let mut command = Command::new("kubectl");
        command.args(arguments).args(self.access.arguments());
        // A password is asked for there.
        command.stdin(Stdio::inherit());
        command
    }
}

fn parsed(arguments: &[OsString], output: &[u8]) -> Result<serde_json::Value, Error> {
    serde_json::from_slice(output).map_err(|error| Error::NotJson {
        verb: verb(arguments),
        error,
    })
}

fn verb(arguments: &[OsString]) -> String {
    let verb = arguments.first().map(|verb| verb.to_string_lossy());
    verb.unwrap_or_default().into_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Connection;

    #[derive(Parser)]
    struct Test {
        #[command(flatten)]
        connection: Connection,
    }

    #[test]
    fn every_option_is_handed_on_except_the_namespace() {
        let given = [
            "--kubeconfig=a b",
            "--context=c",
            "--cluster=d",
            "--user=e",
            "--as=f",
            "--as-uid=g",
            "--server=h",
            "--token=i",
            "--certificate-authority=j",
            "--tls-server-name=k",
            "--client-certificate=l",
            "--client-key=m",
            "--request-timeout=5s",
            "--as-group=n",
            "--as-group=o",
            "--insecure-skip-tls-verify",
        ];
        let all = ["test", "-n", "shop"].into_iter().chain(given);
        let connection = Test::try_parse_from(all).unwrap().connection;
        assert_eq!(connection.namespace.as_deref(), Some("shop"));
        assert_eq!(connection.access.arguments(), given);
    }
}
