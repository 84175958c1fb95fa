//! A sensor's name in the configuration: how the watch on pods is asked for it.
//!
//! In: a valid [`Config`], and what sockets there are. Out: the settings of [`discovery::watch`],
//! its task on the control side's runtime, and each of its views as a list of [`Known`]. Only the
//! last view is kept where the control side is slow: each is complete in itself.

use discovery::{ClientSource, Families, Identity, Pace, Prefer, Scope, Settings, View};
use tokio::sync::watch;

use crate::config::{self, Config, Namespace, Namespaces, ObjectName, PodUid, Sensor};
use crate::sensors::{Known, Receiver};

/// The views of the sensors that have the name.
pub(crate) struct Views(watch::Receiver<View>);

impl Views {
    /// Starts looking for the sensor's name; `None` where the configuration gives addresses. To be
    /// called within the runtime.
    pub(crate) fn follow(config: &Config, has_ipv6: bool) -> Option<Self> {
        let Sensor::Name(name) = &config.sensor else {
            return None;
        };
        let settings = settings(config, name, has_ipv6);
        let (views, last) = watch::channel(View::default());
        // It fails when the control side has ended, and then nobody wants a view.
        let publish = move |view| drop(views.send(view));
        tokio::spawn(discovery::watch(settings, source(config), publish));
        Some(Self(last))
    }

    /// Waits for the next view.
    pub(crate) async fn next(&mut self) -> Vec<Known> {
        if self.0.changed().await.is_err() {
            // Only a panic ends discovery; the sensors known so far stay.
            tracing::error!("discovery has ended; this is a defect in podspan, please report it");
            std::future::pending::<()>().await;
        }
        self.0
            .borrow_and_update()
            .sensors
            .iter()
            .map(known)
            .collect()
    }
}

fn known(sensor: &discovery::FoundSensor) -> Known {
    let receiver = match sensor.receiver {
        discovery::Receiver::Sniffer => Receiver::Sniffer,
        discovery::Receiver::Socket => Receiver::Socket,
    };
    Known {
        address: sensor.address,
        receiver,
    }
}

fn settings(config: &Config, name: &str, has_ipv6: bool) -> Settings {
    let text = |name: Option<&str>| name.map(str::to_owned);
    Settings {
        name: name.to_owned(),
        scope: match &config.sensor_namespace {
            None => Scope::Own,
            Some(Namespaces::One(namespace)) => Scope::Namespace(namespace.to_string()),
            Some(Namespaces::All) => Scope::All,
        },
        default_port: config.sensor_port,
        default_receiver: match config.receiver {
            config::Receiver::Sniffer => discovery::Receiver::Sniffer,
            config::Receiver::Socket => discovery::Receiver::Socket,
        },
        prefer: match config.sensor_prefer {
            config::Prefer::Node => Prefer::Node,
            config::Prefer::Any => Prefer::Any,
        },
        node: text(config.node_name.as_ref().map(ObjectName::as_str)),
        me: Identity {
            uid: text(config.pod_uid.as_ref().map(PodUid::as_str)),
            name: text(config.pod_name.as_ref().map(ObjectName::as_str)),
            namespace: text(config.pod_namespace.as_ref().map(Namespace::as_str)),
        },
        families: Families {
            ipv4: true,
            ipv6: has_ipv6,
        },
        pace: Pace::default(),
    }
}

/// A kubeconfig where one is named, in a pod its service account, else the user's kubeconfig.
fn source(config: &Config) -> ClientSource {
    match (&config.kubernetes_host, config.kubernetes_port) {
        (Some(host), Some(port)) if config.kubeconfig.is_none() => {
            ClientSource::in_cluster(host.as_str(), port)
        }
        _ => ClientSource::Kubeconfig(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &[(&str, &str)]) -> Config {
        let all = [("SENSOR", "zeek")].iter().chain(more);
        Config::from_vars(all.map(|(name, value)| (name.into(), value.into()))).unwrap()
    }

    #[test]
    fn the_settings_are_those_of_the_environment() {
        let all = config(&[
            ("SENSOR_NAMESPACE", "*"),
            ("SENSOR_PORT", "4790"),
            ("SENSOR_PREFER", "any"),
            ("RECEIVER", "socket"),
            ("NODE_NAME", "worker-1"),
            ("POD_NAME", "cart-1"),
            ("POD_NAMESPACE", "shop"),
            ("POD_UID", "u-1"),
        ]);
        let settings = settings(&all, "zeek", false);
        assert_eq!(settings.scope, Scope::All);
        assert_eq!(settings.default_port.get(), 4790);
        assert_eq!(settings.default_receiver, discovery::Receiver::Socket);
        assert_eq!(settings.prefer, Prefer::Any);
        assert_eq!(settings.node.as_deref(), Some("worker-1"));
        let me = ["u-1", "cart-1", "shop"].map(|text| Some(text.to_owned()));
        let [uid, name, namespace] = me;
        assert_eq!(
            settings.me,
            Identity {
                uid,
                name,
                namespace
            }
        );
        assert!(settings.families.ipv4 && !settings.families.ipv6);
        let one = super::settings(&config(&[("SENSOR_NAMESPACE", "sensors")]), "zeek", true);
        assert_eq!(one.scope, Scope::Namespace("sensors".to_owned()));
        assert_eq!(
            super::settings(&config(&[]), "zeek", true).scope,
            Scope::Own
        );
    }

    #[test]
    fn a_pods_own_account_is_used_unless_a_kubeconfig_is_named() {
        let pod = [
            ("KUBERNETES_SERVICE_HOST", "fd00::1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
        ];
        let account = ClientSource::in_cluster("fd00::1", 443.try_into().unwrap());
        assert_eq!(source(&config(&pod)), account);
        let [host, port] = pod;
        let named = [host, port, ("KUBECONFIG", "/k")];
        for other in [&named as &[_], &[host], &[port], &[]] {
            assert_eq!(source(&config(other)), ClientSource::Kubeconfig(None));
        }
    }
}
