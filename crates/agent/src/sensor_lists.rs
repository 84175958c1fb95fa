//! Lists of sensors for a sensor's name in the configuration.
//!
//! In: a valid [`Config`], and whether there is an IPv6 socket. Out: the settings of
//! [`discovery::watch`], its task on the control side's runtime, and each of its results as a list of
//! [`ListedSensor`]. If the control side is slow, only the last list is kept: each list is complete.

use std::net::IpAddr;

use discovery::{
    ClientSource, Families, FoundSensor, OwnPod, Scope, SensorList, Settings, SharedContact,
    Timing, TunnelSettings,
};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use tokio::sync::watch;

use crate::sensors::ListedSensor;
use settings::{Config, Namespace, Namespaces, ObjectName, PodUid, SensorSetting};

/// The lists of the sensors that have the name.
pub(crate) struct SensorLists {
    lists: watch::Receiver<SensorList>,
    contact: SharedContact,
}

impl SensorLists {
    /// Starts to watch the pods with the sensor's name; `None` if the configuration has addresses.
    /// Must be called within the runtime.
    pub(crate) fn watch(config: &Config, has_ipv6: bool) -> Option<Self> {
        let SensorSetting::Name(name) = &config.sensor else {
            return None;
        };
        let settings = settings(config, name, has_ipv6);
        let (lists, last) = watch::channel(SensorList::default());
        // It fails when the control side has ended, which then needs no list.
        let publish = move |list| drop(lists.send(list));
        let contact = SharedContact::default();
        let watched = discovery::watch(settings, source(config), contact.clone(), publish);
        tokio::spawn(watched);
        Some(Self {
            lists: last,
            contact,
        })
    }

    /// What is known of the API server.
    pub(crate) fn contact(&self) -> SharedContact {
        self.contact.clone()
    }

    /// Waits for the next list.
    pub(crate) async fn next(&mut self) -> Vec<ListedSensor> {
        // Only a panic ends discovery, and in the release build a panic ends the process.
        if self.lists.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.lists
            .borrow_and_update()
            .sensors
            .iter()
            .map(listed)
            .collect()
    }
}

fn listed(sensor: &FoundSensor) -> ListedSensor {
    ListedSensor::new(
        sensor.address,
        sensor.receiver,
        sensor.has_tunnel,
        sensor.on_this_node,
    )
}

fn settings(config: &Config, name: &str, has_ipv6: bool) -> Settings {
    let text = |name: Option<&str>| name.map(str::to_owned);
    let own = own_addresses();
    let families = families(&own, has_ipv6);
    Settings {
        name: name.to_owned(),
        scope: match &config.sensor_namespace {
            None => Scope::Own,
            Some(Namespaces::One(namespace)) => Scope::Namespace(namespace.to_string()),
            Some(Namespaces::All) => Scope::All,
        },
        default_port: config.sensor_port,
        default_receiver: config.receiver,
        tunnel: TunnelSettings {
            default: config.tunnel,
            port: config.tunnel_port,
            has_keys: config.has_tunnel_keys(),
        },
        node: text(config.node_name.as_ref().map(ObjectName::as_str)),
        own_pod: OwnPod {
            uid: text(config.pod_uid.as_ref().map(PodUid::as_str)),
            name: text(config.pod_name.as_ref().map(ObjectName::as_str)),
            namespace: text(config.pod_namespace.as_ref().map(Namespace::as_str)),
            addresses: own,
        },
        families,
        timing: Timing::default(),
    }
}

/// The addresses of this pod's interfaces, except those that every machine has.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    let interfaces = getifaddrs().into_iter().flatten();
    let address = |interface: InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    let is_unique = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    };
    interfaces.filter_map(address).filter(is_unique).collect()
}

/// The address families in which a pod with these addresses can send. A pod has its addresses before
/// its containers start. Without any address this is not a pod, and both families are tried.
fn families(own: &[IpAddr], has_ipv6: bool) -> Families {
    let none = own.is_empty();
    Families {
        ipv4: none || own.iter().any(IpAddr::is_ipv4),
        ipv6: has_ipv6 && (none || own.iter().any(IpAddr::is_ipv6)),
    }
}

/// `KUBECONFIG` if it is set, else the pod's service account, else the user's kubeconfig.
pub(crate) fn source(config: &Config) -> ClientSource {
    match (
        &config.kubernetes_service_host,
        config.kubernetes_service_port,
    ) {
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
            ("RECEIVER", "socket"),
            ("NODE_NAME", "worker-1"),
            ("POD_NAME", "cart-1"),
            ("POD_NAMESPACE", "shop"),
            ("POD_UID", "u-1"),
            ("TUNNEL", "required"),
            ("TUNNEL_PORT", "51821"),
            ("WG_SENSOR_KEY_FILE", "/s"),
            ("WG_PRESHARED_KEY_FILE", "/p"),
        ]);
        let settings = settings(&all, "zeek", false);
        assert_eq!(settings.scope, Scope::All);
        assert_eq!(settings.default_port.get(), 4790);
        assert_eq!(settings.default_receiver, ::settings::Receiver::Socket);
        assert_eq!(settings.node.as_deref(), Some("worker-1"));
        let tunnel = TunnelSettings {
            default: ::settings::Tunnel::Required,
            port: 51821.try_into().unwrap(),
            has_keys: true,
        };
        assert_eq!(settings.tunnel, tunnel);
        let me = ["u-1", "cart-1", "shop"].map(|text| Some(text.to_owned()));
        let [uid, name, namespace] = me;
        assert_eq!(
            settings.own_pod,
            OwnPod {
                uid,
                name,
                namespace,
                addresses: own_addresses(),
            }
        );
        assert!(!settings.families.ipv6);
        let one = super::settings(&config(&[("SENSOR_NAMESPACE", "sensors")]), "zeek", true);
        assert_eq!(one.scope, Scope::Namespace("sensors".to_owned()));
        assert_eq!(
            super::settings(&config(&[]), "zeek", true).scope,
            Scope::Own
        );
    }

    #[test]
    fn the_families_are_those_of_the_pods_addresses() {
        let can_send = |own: &[&str], has_ipv6| {
            let own: Vec<IpAddr> = own.iter().map(|address| address.parse().unwrap()).collect();
            let Families { ipv4, ipv6 } = families(&own, has_ipv6);
            (ipv4, ipv6)
        };
        assert_eq!(can_send(&["10.0.0.1"], true), (true, false));
        assert_eq!(can_send(&["fd00::1"], true), (false, true));
        assert_eq!(can_send(&["fd00::1", "10.0.0.1"], true), (true, true));
        assert_eq!(can_send(&["fd00::1", "10.0.0.1"], false), (true, false));
        assert_eq!(can_send(&[], true), (true, true));
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
