//! Texts for errors with credentials: what is wrong and where, without secrets.
//!
//! In: an error of `kube` about a kubeconfig, a plugin, a token or a certificate. Out: one text. The
//! error's own text is not used if it quotes: the YAML reader shows the lines around an error, `serde`
//! shows the wrong value, a plugin's error shows its command, environment and output, and a PEM or
//! base64 error shows a line or a character of the key.
//!
//! Invariant: a text has no secret of the file, the environment or a plugin's output. It has only fixed
//! texts of podspan and of libraries, names of settings, numbers, paths of kubeconfigs, and the names
//! of a context and a cluster. It does not have the path of a token's or a key's file: if the token was
//! put there by mistake, it would be in the log.

use std::error::Error as StdError;
use std::io;

use kube::client::{AuthError, RustlsTlsError};
use kube::config::{KubeconfigError, LoadDataError};
use serde_saphyr::{Error as YamlError, ExternalMessageSource};

/// The text if a proxy is set. The proxy's address may have a password.
pub(crate) const PROXY: &str = "a proxy is set, by HTTPS_PROXY or by proxy-url in the kubeconfig, and podspan \
     supports no proxy for the API server; unset it";

/// What is wrong with a kubeconfig; `file` is where it was read from.
pub(crate) fn kubeconfig(file: &str, error: &KubeconfigError) -> String {
    use KubeconfigError as E;
    match error {
        E::ReadConfig(error, _) => format!("{file}: {error}"),
        E::Parse(error) => format!("{file}, {}", yaml(error)),
        E::CurrentContextNotSet => format!("{file}: current-context is not set"),
        E::KindMismatch => format!("{file}: the files have different values of kind"),
        E::ApiVersionMismatch => format!("{file}: the files have different values of apiVersion"),
        E::LoadContext(name) => format!("{file}: there is no context {name:?}"),
        E::LoadClusterOfContext(name) => format!("{file}: there is no cluster {name:?}"),
        E::FindPath => String::from("KUBECONFIG is not set, and there is no home directory"),
        E::MissingClusterUrl => format!("{file}: the cluster has no server"),
        E::ParseClusterUrl(_) => no_address(&format!("the server in {file}")),
        E::ParseProxyUrl(_) => PROXY.to_owned(),
        E::LoadCertificateAuthority(error) => load(file, "certificate-authority", error),
        E::LoadClientCertificate(error) => load(file, "client-certificate", error),
        E::LoadClientKey(error) => load(file, "client-key", error),
        E::ParseCertificates(_) => {
            format!("{file}: certificate-authority is not a certificate in PEM")
        }
    }
}

/// The text if `what` is not a URL. The value may have a password.
pub(crate) fn no_address(what: &str) -> String {
    format!("{what} is not an address such as https://10.0.0.1:6443")
}

fn load(file: &str, field: &str, error: &LoadDataError) -> String {
    match error {
        LoadDataError::DecodeBase64(_) => format!("{file}: {field}-data is not base64"),
        LoadDataError::ReadFile(error, _) => {
            format!("{file}: the file of {field} cannot be read: {error}")
        }
        LoadDataError::NoBase64DataOrFile => {
            format!("{file}: {field} is missing; both client-certificate and client-key are needed")
        }
    }
}

/// What is wrong with a token, or with its plugin.
pub(crate) fn auth(error: &AuthError) -> String {
    use AuthError as E;
    match error {
        E::InvalidBasicAuth(_) => {
            text("username or password has a character that HTTP does not allow")
        }
        E::InvalidBearerToken(_) => text("the token has a character that HTTP does not allow"),
        E::UnrefreshableTokenResponse => text("the exec plugin or auth-provider gave no token"),
        E::ExecPluginFailed => text("the output of the exec plugin has no status"),
        E::MalformedTokenExpirationDate(_) => {
            text("the exec plugin or auth-provider gave an expiration date that is not valid")
        }
        E::AuthExecStart(error) => format!("the exec plugin does not start: {error}"),
        // Command, environment and output have tokens.
        E::AuthExecRun { out, .. } => format!(
            "the command of the exec plugin or auth-provider failed ({}); run it by hand",
            out.status
        ),
        E::AuthExecParse(error) => format!("the output of the exec plugin, {}", yaml(error)),
        E::AuthExecSerialize(_) => text("the input of the exec plugin cannot be written"),
        E::AuthExec(_) => text(
            "the auth-provider gave no token; use a token, a client certificate or an exec plugin",
        ),
        E::ReadTokenFile(error, _) => format!("the file of tokenFile cannot be read: {error}"),
        E::ParseTokenKey(error) => format!(
            "the output of the auth-provider's command, line {}, column {}: it is not JSON",
            error.line(),
            error.column()
        ),
        E::MissingCommand => text("the exec plugin has no command"),
        E::ExecMissingClusterInfo => text("the exec plugin needs a cluster, and there is none"),
        E::NoValidNativeRootCA(error) => format!("the system's CAs cannot be read: {error}"),
    }
}

/// What is wrong with podspan's certificate or key, or with the CA.
pub(crate) fn tls(error: &RustlsTlsError) -> String {
    use RustlsTlsError as E;
    match error {
        E::InvalidIdentityPem(_) => text("client-certificate or client-key is not PEM"),
        E::MissingPrivateKey => text("client-key has no key in PKCS8, PKCS1 or SEC1"),
        E::MissingCertificate => text("client-certificate has no certificate"),
        E::InvalidPrivateKey(_) => {
            text("client-key is damaged, of an unknown kind, or does not match client-certificate")
        }
        E::UnknownPrivateKeyFormat => text("client-key is of an unknown kind"),
        E::AddRootCertificate(error) => match io_error(error.as_ref()) {
            Some(error) => format!("the CA's certificate cannot be read: {error}"),
            None => text("the CA's certificate is damaged or not in PEM"),
        },
        E::NoValidNativeRootCA(error) => format!("the system's CAs cannot be read: {error}"),
        E::InvalidServerName(_) => text("tls-server-name is not the name of a host"),
    }
}

fn io_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e io::Error> {
    error.downcast_ref()
}

/// Where a YAML text is wrong, and how.
fn yaml(error: &YamlError) -> String {
    let cause = cause(error);
    match error.location() {
        Some(at) => format!("line {}, column {}: {cause}", at.line(), at.column()),
        None => format!("at an unknown line: {cause}"),
    }
}

/// A YAML error's cause, without values, keys, tags and aliases, which are in the text of other errors
/// and of `serde`.
fn cause(error: &YamlError) -> String {
    use YamlError as E;
    match error.without_snippet() {
        // Its kinds are fixed texts; some have a bracket or a reserved character. Only readers of
        // inputs other than a text write their own, and none is used here.
        E::ExternalMessage { source, .. } => match source.as_ref() {
            ExternalMessageSource::Parser(error) => error.kind().to_string(),
            _ => text("it is not valid"),
        },
        E::Unexpected { expected, .. } => format!("expected {expected}"),
        // `expected` is a fixed text from the types of `kube`.
        E::SerdeInvalidType { expected, .. }
        | E::SerdeInvalidValue { expected, .. }
        | E::SerdeInvalidLength { expected, .. } => format!("expected {expected}"),
        E::SerdeUnknownVariant { expected, .. } => {
            format!("expected one of {}", expected.join(", "))
        }
        E::SerdeMissingField { field, .. } => format!("the field {field} is missing"),
        E::InvalidScalar { ty, .. } => format!("expected {ty}"),
        E::DuplicateMappingKey { .. } => text("a key is in it twice"),
        E::NullIntoString { .. } => text("expected a text, not null"),
        E::InvalidUtf8Input => text("it is not UTF-8"),
        E::Eof { .. } => text("it ends too early"),
        E::UnknownAnchor { .. } => text("an alias has no anchor"),
        E::AliasError { error, .. } => self::cause(error),
        _ => text("a value has the wrong type"),
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}
