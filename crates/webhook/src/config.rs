//! Reads the settings from the environment, and collects all errors.
//!
//! In: pairs of name and value. Out: a [`Config`], or every error with setting, value, what is expected and an
//! example. An empty variable counts as not set. The image and the defaults are tried on a pod, so a default
//! that would keep each pod without podspan is an error at the start.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use inject::{Options, Placement, Security};
use program::{Reading, UNKNOWN_WORD, parsed, time};
use serde_json::json;
use settings::{Namespace, Value as _, injection};

use crate::variable as table;

/// Where certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificates {
    /// The webhook makes them.
    Own,
    /// A folder with `tls.crt` and `tls.key`.
    Folder(PathBuf),
}

/// The settings, each valid.
#[derive(Debug, Clone)]
pub struct Config {
    /// How podspan is injected.
    pub options: Options<'static>,
    /// Where certificates come from.
    pub certificates: Certificates,
    /// The namespace of Service and Secret.
    pub namespace: String,
    /// The name of Service, Secret and configuration.
    pub service: String,
    /// Further names in the certificate.
    pub names: Vec<String>,
    /// How long a certificate is valid.
    pub validity: Duration,
    /// Where API servers ask.
    pub listen: SocketAddr,
    /// Where the state is shown.
    pub status: SocketAddr,
    /// How long the webhook answers after a signal.
    pub drain: Duration,
}

impl Config {
    /// Reads all settings but those of the log.
    pub fn read(reading: &mut Reading) -> Option<Self> {
        let options = options(reading);
        let certificates = reading.value(&table::CERTIFICATES, certificates);
        let namespace = reading.value(&table::NAMESPACE, label);
        let service = reading.value(&table::SERVICE, label);
        let names = reading.value(&table::NAMES, names);
        let validity = reading.value(&table::VALIDITY, |text| {
            time(
                text,
                Duration::from_secs(5),
                Duration::from_hours(3650 * 24),
            )
        });
        let listen = reading.value(&table::LISTEN, parsed);
        let status = reading.value(&table::STATUS, parsed);
        let drain = reading.value(&table::DRAIN, |text| {
            time(text, Duration::ZERO, Duration::from_mins(1))
        });
        Some(Self {
            options: options?,
            certificates: certificates?,
            namespace: namespace?,
            service: service?,
            names: names?,
            validity: validity?,
            listen: listen?,
            status: status?,
            drain: drain?,
        })
    }
}

fn options(reading: &mut Reading) -> Option<Options<'static>> {
    let placement = reading.value(&table::PLACEMENT, |text| match text {
        "native" => Ok(Placement::Native),
        "plain" => Ok(Placement::Plain),
        _ => Err(UNKNOWN_WORD.to_owned()),
    });
    let security = reading.value(&table::SECURITY, |text| {
        let known = Security::NAMES.iter().find(|(name, _)| *name == text);
        known
            .map(|(_, security)| *security)
            .ok_or_else(|| UNKNOWN_WORD.to_owned())
    });
    let image = reading.value(&table::IMAGE, |text| {
        let options = Options {
            image: text.to_owned(),
            ..injection()
        };
        tried(&options).map(|()| text.to_owned())
    });
    let defaults = reading.value(&table::DEFAULTS, |text| {
        let defaults = defaults(text)?;
        let options = Options {
            defaults: defaults.clone(),
            ..injection()
        };
        tried(&options).map(|()| defaults)
    });
    Some(Options {
        image: image?,
        placement: placement?,
        security: security?,
        defaults: defaults?,
        ..injection()
    })
}

/// Whether a plain pod gets podspan with these options.
fn tried(options: &Options<'_>) -> Result<(), String> {
    let pod = json!({"metadata": {}, "spec": {"containers": [{"name": "application"}]}});
    match inject::inject(&pod, options) {
        Ok(_) => Ok(()),
        Err(refused) => Err(refused.to_string()),
    }
}

fn defaults(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut defaults: Vec<(String, String)> = Vec::new();
    let entries = text.split([';', '\n']).map(str::trim);
    for entry in entries.filter(|entry| !entry.is_empty()) {
        let Some((name, value)) = entry.split_once('=') else {
            return Err(format!("{entry:?} has no ="));
        };
        let (name, value) = (name.trim(), value.trim());
        if defaults.iter().any(|(known, _)| known == name) {
            return Err(format!("{name:?} is there twice"));
        }
        defaults.push((name.to_owned(), value.to_owned()));
    }
    Ok(defaults)
}

fn certificates(text: &str) -> Result<Certificates, String> {
    match text {
        "self" => Ok(Certificates::Own),
        path if path.starts_with('/') => Ok(Certificates::Folder(path.into())),
        _ => Err("it is neither self nor an absolute path".to_owned()),
    }
}

/// Names of Services have the form of those of namespaces.
fn label(text: &str) -> Result<String, String> {
    let name = Namespace::parse(text).map_err(|reason| reason.to_string())?;
    Ok(name.to_string())
}

fn names(text: &str) -> Result<Vec<String>, String> {
    let names = text.split(',').map(str::trim).filter(|_| !text.is_empty());
    names
        .map(|name| {
            let is_name = name.split('.').all(|part| label(part).is_ok()) && name.len() < 254;
            if IpAddr::from_str(name).is_ok() || is_name {
                return Ok(name.to_owned());
            }
            Err(format!("{name:?} is neither a host name nor an address"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use program::ConfigErrors;

    use super::*;
    use crate::variable::{PROGRAM, SETTINGS};

    fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        let read = PROGRAM.read(variables, Config::read);
        read.map(|(_, config)| config)
    }

    #[test]
    fn without_variables_the_defaults_apply() {
        let config = read(&[("PATH", "/bin"), ("LOG", "")]).unwrap();
        assert_eq!(config.options.image, inject::IMAGE);
        assert_eq!(config.certificates, Certificates::Own);
        assert_eq!(config.validity, Duration::from_hours(90 * 24));
        assert_eq!(config.namespace, "podspan-system");
        assert!(config.names.is_empty() && config.options.defaults.is_empty());
    }

    #[test]
    fn every_example_is_valid() {
        for setting in SETTINGS {
            let config = read(&[(setting.name, setting.example)]);
            assert!(config.is_ok(), "{}", config.unwrap_err());
        }
    }

    #[test]
    fn values_are_read() {
        let config = read(&[
            (
                "DEFAULTS",
                "sensor=10.0.0.1,10.0.0.2; cpu = 50m/250m\nvni=7;",
            ),
            ("PLACEMENT", "plain"),
            ("SECURITY", "root"),
            ("CERTIFICATES", "/certificates"),
            ("NAMES", "webhook.example, ::1"),
            ("DRAIN", "250ms"),
        ])
        .unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let defaults = [
            pair("sensor", "10.0.0.1,10.0.0.2"),
            pair("cpu", "50m/250m"),
            pair("vni", "7"),
        ];
        assert_eq!(config.options.defaults, defaults);
        assert_eq!(config.options.placement, Placement::Plain);
        assert_eq!(config.options.security, Security::Root);
        assert_eq!(
            config.certificates,
            Certificates::Folder("/certificates".into())
        );
        assert_eq!(config.names, ["webhook.example", "::1"]);
        assert_eq!(config.drain, Duration::from_millis(250));
    }

    #[test]
    fn all_errors_are_reported_in_the_order_of_the_table() {
        let errors = read(&[
            ("LOG", "loud"),
            ("IMAGE", "a b"),
            ("DEFAULTS", "sensor"),
            ("CERTIFICATES", "there"),
            ("NAMES", "a,,b"),
            ("VALIDITY", "4s"),
            ("SERVICE", "-a"),
            ("LISTEN", "8443"),
            ("DRAIN", "5"),
        ])
        .unwrap_err();
        let names: Vec<_> = errors
            .errors
            .iter()
            .map(|error| error.variable.name)
            .collect();
        let expected = [
            "IMAGE",
            "DEFAULTS",
            "CERTIFICATES",
            "SERVICE",
            "NAMES",
            "VALIDITY",
            "LISTEN",
            "DRAIN",
            "LOG",
        ];
        assert_eq!(names, expected);
        let text = errors.to_string();
        assert!(
            text.contains("DEFAULTS=\"sensor\": \"sensor\" has no =; expected: "),
            "{text}"
        );
    }
}
