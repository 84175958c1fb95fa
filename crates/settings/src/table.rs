//! The settings, each declared once: name, field, type, fallback, what is expected, text, example and the
//! pattern of its values.
//!
//! To add one, add a declaration here, and a type in `values` if none fits. [`settings!`] generates
//! everything else. Then generate `docs/configuration.md` again. No other module reads an environment
//! variable.

use std::num::NonZeroU16;

use filter::Filter;
use keys::{PresharedKey, PublicKey};
use mirror::{SourcePorts, Spread, TrailerBound};
use serde::Deserialize;
use wire::{Mtu, Vni};

use super::bounds::{RingSetting, StartWait};
use super::metrics::{MetricsAddress, Ready};
use super::names::{FileNames, HostName, Namespace, Namespaces, ObjectName, PodUid};
#[cfg(feature = "inject")]
use super::pattern::{
    file, free_port, ipv4, ipv6, key, label, list, port, sensor_address, sensor_name, subdomain,
    whole,
};
use super::reading::{Reading, Setting};
use super::receiver::Receiver;
use super::sensor::SensorSetting;
use super::tunnel::{FilePath, InnerAddress, Tunnel};
use super::values::{
    Annotations, Field, Interfaces, LogFormat, LogLevel, OnFailure, Prefer, Value,
};
use super::variable::{Fallback, Variable, settings};

settings! {
    /// Where the copies go.
    SENSOR sensor: SensorSetting {
        required,
        expected: "a name, or addresses as ip, ip:port or [ip6]:port, separated by commas",
        text: "Where the copies go. A name selects the pods with the label run=<name>; podspan finds them \
               and follows their changes. If there are several sensors, SPREAD sets how the copies are \
               divided. An address without a port uses SENSOR_PORT, and with a tunnel TUNNEL_PORT.",
        example: "zeek",
        pattern: whole!(sensor_name!(), "|", list!(sensor_address!())),
    }

    /// What is captured.
    INTERFACE interface: Interfaces {
        default: "eth0",
        expected: "names of network interfaces, separated by commas",
        text: "The interfaces to mirror. podspan waits for an interface that does not exist yet.",
        example: "eth0,net1",
        pattern: whole!(list!(r"[^,/:\pZ\x00-\x1f\x7f-\x9f]{1,15}")),
    }

    /// Which frames are mirrored; `None`: all.
    FILTER filter: Filter {
        unset: "every frame",
        expected: "an expression in tcpdump's language, pcap-filter(7)",
        text: "Which frames are mirrored. The kernel rejects the others before they are copied, so they cost \
               the application and podspan nothing. Names of hosts are not allowed, because they are not \
               looked up. The annotation podspan.dev/filter of podspan's own pod is used in its place. \
               docs/filter.md has the language, and recipes.",
        example: "not port 53 and not (tcp port 8080 and src net 10.0.0.0/24)",
        // A policy cannot compile it. Its length is not in the pattern, because 4096 rounds would be slow.
        pattern: whole!(r"[\t-\r -~]*"),
    }

    /// Where the annotations of podspan's own pod are read.
    ANNOTATIONS annotations: Annotations {
        default: "api",
        expected: "api, off, or the absolute path of a file",
        text: "Where podspan follows the annotations podspan.dev/filter and podspan.dev/mirror of its own pod. api: \
               at the API server. A file, for pods without access to the API server: that of a downwardAPI volume \
               with metadata.annotations; the kubelet changes it up to about a minute after the annotations. off: \
               nowhere, so nobody can change what is mirrored while podspan runs.",
        example: "/etc/podspan/annotations",
        // Not a file: podspan is injected without a volume for it.
        pattern: whole!("(?i:api|off)"),
    }

    /// The network identifier in the VXLAN header.
    VNI vni: Vni {
        default: "0",
        expected: "a number from 0 to 16777215, decimal, or hexadecimal with the prefix 0x",
        text: "The VXLAN network identifier of the copies, 24 bits. The old script read this value as \
               hexadecimal: its VNI=10 is VNI=0x10 here.",
        example: "0x1a",
        pattern: whole!(
            "0*(?:[0-9]{1,7}|1[0-5][0-9]{6}|16[0-6][0-9]{5}|167[0-6][0-9]{4}|1677[0-6][0-9]{3}",
            "|16777[01][0-9]{2}|1677720[0-9]|1677721[0-5])|0[xX]0*[0-9A-Fa-f]{1,6}"
        ),
    }

    /// Where podspan searches for the sensors' pods; `None`: in its own namespace.
    SENSOR_NAMESPACE sensor_namespace: Namespaces {
        unset: "podspan's own namespace",
        expected: "the name of a namespace, or * for all",
        text: "The namespace of the sensors' pods. With *, everyone who can create a pod in any namespace \
               can receive the traffic.",
        example: "monitoring",
        pattern: whole!("[*]|", label!()),
    }

    /// The destination port, if nothing else sets one.
    SENSOR_PORT sensor_port: NonZeroU16 {
        default: "4789",
        expected: "a UDP port from 1 to 65535",
        text: "The UDP port of sensors found by name without the annotation podspan.dev/port, and of \
               addresses in SENSOR without a port. Not of sensors behind a tunnel: see \
               TUNNEL_PORT. Kubernetes sets this variable to tcp://... if there \
               is a Service named sensor; podspan ignores such a value.",
        example: "4789",
        pattern: whole!(port!()),
    }

    /// Which of the sensors found by name are used.
    SENSOR_PREFER sensor_prefer: Prefer {
        default: "node",
        expected: "node or any",
        text: "node: if sensors found by name run on this node and do not fail, only these are used. any: \
               all sensors are used.",
        example: "any",
        pattern: whole!("(?i:node|any)"),
    }

    /// How sensors without an annotation receive the copies.
    RECEIVER receiver: Receiver {
        default: "sniffer",
        expected: "sniffer or socket",
        text: "How sensors without the annotation podspan.dev/receiver receive the copies. sniffer: they \
               capture on an interface; this value is always safe. socket: they have a UDP socket or a \
               kernel vxlan device, which makes sending cheaper.",
        example: "socket",
        pattern: whole!("(?i:sniffer|socket)"),
    }

    /// Which sensors get their copies through WireGuard.
    TUNNEL tunnel: Tunnel {
        default: "off",
        expected: "off, wireguard or required",
        text: "Whether copies are encrypted with WireGuard; podspan-receive beside the sensor decrypts them. off: \
               for sensors that say so by the annotation podspan.dev/tunnel. wireguard: also for sensors without \
               this annotation, and for addresses. required: for addresses, and pods without \
               podspan.dev/tunnel: wireguard are not used. It needs the sensors' public key and a pre-shared key.",
        example: "wireguard",
        pattern: whole!("(?i:off|wireguard|required)"),
    }

    /// The UDP port of tunnels, if nothing else sets one.
    TUNNEL_PORT tunnel_port: NonZeroU16 {
        default: "51820",
        expected: "a UDP port from 1 to 65535",
        text: "The UDP port of the tunnel to sensors without the annotation podspan.dev/tunnel-port, and to \
               addresses in SENSOR without a port. Kubernetes sets this variable to tcp://... if there is a \
               Service named tunnel; podspan ignores such a value.",
        example: "51820",
        pattern: whole!(port!()),
    }

    /// The sensors' public key.
    WG_SENSOR_KEY wg_sensor_key: PublicKey {
        unset: "none, or that of WG_SENSOR_KEY_FILE",
        expected: "44 characters of base64, as wg pubkey prints them",
        text: "The public key of all sensors behind a tunnel. podspan sends only to who has the private key that \
               belongs to it.",
        example: "SensorSensorSensorSensorSensorSensorSensor0=",
        pattern: whole!(key!()),
    }

    /// A file with the sensors' public key.
    WG_SENSOR_KEY_FILE wg_sensor_key_file: FilePath {
        unset: "none, or WG_SENSOR_KEY",
        expected: "the absolute path of a file with a public key, as wg pubkey prints it",
        text: "The same from a file, for example of a mounted Secret.",
        example: "/etc/podspan/tunnel/sensor-key",
        pattern: whole!(file!()),
    }

    /// The pre-shared key, which admits podspan.
    WG_PRESHARED_KEY wg_preshared_key: PresharedKey {
        unset: "none, or that of WG_PRESHARED_KEY_FILE",
        expected: "44 characters of base64, as wg genpsk prints them",
        text: "The pre-shared key of podspans and sensors. It is secret: who has it can send false copies. Who can \
               read the environment of a container can read it, so use WG_PRESHARED_KEY_FILE where there are files.",
        example: "ExampleExampleExampleExampleExampleExample0=",
        pattern: whole!(key!()),
    }

    /// A file with the pre-shared key.
    WG_PRESHARED_KEY_FILE wg_preshared_key_file: FilePath {
        unset: "none, or WG_PRESHARED_KEY",
        expected: "the absolute path of a file with a pre-shared key, as wg genpsk prints it",
        text: "The same from a file, for example of a mounted Secret.",
        example: "/etc/podspan/tunnel/preshared-key",
        pattern: whole!(file!()),
    }

    /// A file with podspan's own private key; `None`: a new one at each start.
    WG_PRIVATE_KEY_FILE wg_private_key_file: FilePath {
        unset: "a new key at each start",
        expected: "the absolute path of a file with a private key, as wg genkey prints it",
        text: "podspan's own private key, for a stock WireGuard interface, which has a list of its peers. One podspan \
               can use a key at a time. podspan-receive has no list, so with it nothing needs to be set.",
        example: "/etc/podspan/tunnel/private-key",
        pattern: whole!(file!()),
    }

    /// podspan's address inside the tunnel.
    WG_ADDRESS wg_address: InnerAddress {
        default: "169.254.47.1",
        expected: "an IP address of the family of WG_SENSOR_ADDRESS",
        text: "podspan's IP address inside the tunnel, for a stock WireGuard interface: it must be in AllowedIPs \
               there. podspan-receive ignores it.",
        example: "169.254.47.7",
        pattern: whole!(ipv4!(), "|", ipv6!()),
    }

    /// The sensor's address inside the tunnel.
    WG_SENSOR_ADDRESS wg_sensor_address: InnerAddress {
        default: "169.254.47.2",
        expected: "an IP address of the family of WG_ADDRESS",
        text: "The sensor's IP address inside the tunnel, for a stock WireGuard interface: it is the address of that \
               interface. podspan-receive ignores it.",
        example: "169.254.47.2",
        pattern: whole!(ipv4!(), "|", ipv6!()),
    }

    /// How the copies are divided among sensors.
    SPREAD spread: Spread {
        default: "hosts",
        expected: "hosts or flows",
        text: "How copies are divided among several sensors. hosts: one sensor gets all traffic between two \
               hosts, so it gets a connection together with the one that announced it. flows: one sensor \
               gets a whole connection; for a pod that communicates with few hosts.",
        example: "flows",
        pattern: whole!("(?i:hosts|flows)"),
    }

    /// The number of source ports of the copies.
    SOURCE_PORTS source_ports: SourcePorts {
        default: "1",
        expected: "1, 2, 4, 8 or 16",
        text: "The number of UDP ports from which the copies are sent. 1: a sensor gets all copies in the \
               order in which the frames were sent or received. More, for a sensor whose network card \
               spreads its load by the outer ports: the order is kept only between the same two hosts.",
        example: "4",
        pattern: whole!("0*(?:1|2|4|8|16)"),
    }

    /// How many bytes of trailers copies get.
    TRAILERS trailers: TrailerBound {
        default: "20%",
        expected: "off, or a percentage from 1% to 100%",
        text: "Copies to a sensor with RECEIVER=socket are sent several at a time, if they have one length. \
               For this, copies are lengthened by zeros after the inner packet, which receivers ignore, by at \
               most this percentage of the bytes that the sensor gets. More: less CPU time with frames of \
               many lengths, and more bytes in the network. off: no copy is lengthened.",
        example: "50%",
        pattern: whole!("(?i:off)|0*(?:[1-9][0-9]?|100)%"),
    }

    /// The node of this pod.
    NODE_NAME node_name: ObjectName {
        unset: "no node is preferred",
        expected: "the name of a Kubernetes node",
        text: "The node that this pod runs on, from the downward API (spec.nodeName).",
        example: "worker-1",
        pattern: whole!(subdomain!()),
    }

    /// This pod's name.
    POD_NAME pod_name: ObjectName {
        unset: "in a pod the host's name",
        expected: "the name of a Kubernetes pod",
        text: "The name of this pod, from the downward API (metadata.name). podspan follows the annotations of this \
               pod.",
        example: "shop-7d4b9c6f5-x2x7k",
        pattern: whole!(subdomain!()),
    }

    /// This pod's namespace.
    POD_NAMESPACE pod_namespace: Namespace {
        unset: "the namespace of the service account",
        expected: "the name of a Kubernetes namespace",
        text: "The namespace of this pod, from the downward API (metadata.namespace).",
        example: "shop",
        pattern: whole!(label!()),
    }

    /// This pod's unique identifier.
    POD_UID pod_uid: PodUid {
        unset: "unknown",
        expected: "the UID of a Kubernetes pod",
        text: "The UID of this pod, from the downward API (metadata.uid). With it, podspan never uses its \
               own pod as a sensor.",
        example: "0f4d2a55-9c1e-4f9a-8a49-1c1f6f2f7d10",
        pattern: whole!("[!-~]{1,128}"),
    }

    /// The API server's address, which the kubelet sets.
    KUBERNETES_SERVICE_HOST kubernetes_service_host: HostName {
        unset: "a kubeconfig is used",
        expected: "an IP address or a host's name",
        text: "The address of the API server. The kubelet sets it in every pod. With it and \
               KUBERNETES_SERVICE_PORT, podspan uses the pod's service account.",
        example: "10.96.0.1",
        pattern: whole!(ipv6!(), "|[0-9A-Za-z](?:[-.0-9A-Za-z]{0,251}[0-9A-Za-z])?"),
    }

    /// The API server's port.
    KUBERNETES_SERVICE_PORT kubernetes_service_port: NonZeroU16 {
        unset: "a kubeconfig is used",
        expected: "a TCP port from 1 to 65535",
        text: "The API server's port. The kubelet sets it in every pod.",
        example: "443",
        pattern: whole!(port!()),
    }

    /// Kubeconfig files, which come before the service account.
    KUBECONFIG kubeconfig: FileNames {
        unset: "in a pod the service account, else ~/.kube/config",
        expected: "paths of kubeconfig files, separated by colons",
        text: "Kubeconfig files, in the format of kubectl. Use it to find a sensor by name from outside a \
               cluster, or with other rights than the pod's.",
        example: "/etc/podspan/kubeconfig",
        pattern: whole!(r"[^\x00-\x1f\x7f-\x9f]+"),
    }

    /// Upper bound for the outer packet; `None`: the routes set it.
    MTU mtu: Mtu {
        unset: "from the route to each sensor",
        expected: "a number of bytes from 1280 to 65535",
        text: "An upper bound for the outer packet, including its IP header. Set it if the path to the \
               sensors has a smaller MTU than the route. The copied frame is 50 bytes smaller over IPv4 \
               and 70 bytes smaller over IPv6.",
        example: "1450",
        pattern: whole!(
            "0*(?:12[89][0-9]|1[3-9][0-9]{2}|[2-9][0-9]{3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}",
            "|655[0-2][0-9]|6553[0-5])"
        ),
    }

    /// Memory of each interface's ring.
    RING_SIZE ring_size: RingSetting {
        default: "auto",
        expected: "auto, or a size from 2MiB to 4GiB, in bytes or with KiB, MiB or GiB",
        text: "Memory for captured frames that wait to be sent, for each interface, rounded up to whole \
               MiB. It is kernel memory of the node and does not count toward the container's limit. auto: \
               what arrives at 1 Gbit/s in the longest time for which the CPU quota stops podspan (24MiB \
               with the usual period of 100 ms), and less if memory is short: all rings together take at \
               most half of the container's memory limit, 1/128 of the node's memory, and 1/16 of what is \
               available there. The log has the size and the reason.",
        example: "64MiB",
        pattern: whole!(
            "(?i:auto)|0*(?:[2-9][0-9]{6}|[1-9][0-9]{7,8}|[1-4][0-9]{9}",
            "|(?:[2-9][0-9]{3}|[1-9][0-9]{4,5}|[1-4][0-9]{6})KiB",
            "|(?:[2-9]|[1-9][0-9]{1,2}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-6])MiB|[1-4]GiB)"
        ),
    }

    /// How long frames wait for the first list of sensors.
    START_WAIT start_wait: StartWait {
        default: "5s",
        expected: "a duration from 0s to 60s, in whole s or ms",
        text: "If SENSOR is a name: how long frames captured at the start wait in memory until the API \
               server sends the list of sensors, at most until half of a ring is in use. Then they count \
               as no_sensor. 0s: they do not wait.",
        example: "10s",
        pattern: whole!("0*(?:[1-5]?[0-9]|60)s|0*(?:[1-5]?[0-9]{1,4}|60000)ms"),
    }

    /// What a start that fails does.
    ON_FAILURE on_failure: OnFailure {
        default: "exit",
        expected: "exit or idle",
        text: "What podspan does if it cannot start. exit: it ends with an exit code; the pod of a native \
               sidecar is then not Ready (Init:CrashLoopBackOff). idle: it stays alive without mirroring, \
               logs why, and tries again after 1 s, then after longer and longer pauses of at most a \
               minute; wrong settings need a new container. After the capabilities are dropped, a failure \
               always ends it.",
        example: "idle",
        pattern: whole!("(?i:exit|idle)"),
    }

    /// Where metrics and the state are served.
    METRICS metrics: MetricsAddress {
        default: ":9469",
        expected: "off, or an address with a TCP port from 1024 on; :port is all addresses",
        text: "Where podspan serves /metrics, /status, /livez and /readyz by HTTP. If another process has the port, podspan \
               mirrors all the same, and tries again each minute. Frames of scrapes are mirrored like all others, unless \
               FILTER rejects them. docs/observability.md lists the metrics.",
        example: "127.0.0.1:9469",
        pattern: whole!(
            "(?i:off)|:", free_port!(), "|(?:", ipv4!(), "):", free_port!(),
            r"|\[", ipv6!(), r"(?:%[0-9]+)?\]:", free_port!()
        ),
    }

    /// What the readiness means.
    READY ready: Ready {
        default: "lenient",
        expected: "lenient or strict",
        text: "What /readyz answers while nothing can be mirrored: without the interface or a usable sensor, or after a \
               start that failed. lenient: 200, with the reasons. strict: 503, with the reasons. With a readinessProbe, \
               strict takes the whole pod out of its Services.",
        example: "strict",
        pattern: whole!("(?i:lenient|strict)"),
    }

    /// The level of the log.
    LOG log: LogLevel {
        default: "info",
        expected: "error, warn, info, debug or trace",
        text: "The least important level that is logged, on standard error.",
        example: "debug",
        pattern: whole!("(?i:error|warn|info|debug|trace)"),
    }

    /// The format of the log.
    LOG_FORMAT log_format: LogFormat {
        default: "text",
        expected: "text or json",
        text: "text: lines for people. json: one JSON object per line.",
        example: "json",
        pattern: whole!("(?i:text|json)"),
    }
}

/// Variables that other tools have for less traffic, and why podspan refuses them.
pub(super) const REFUSED: [(&str, &str); 2] = [
    (
        "SNAPLEN",
        "podspan does not cut frames off, because sensors drop a packet whose end is missing; to mirror \
         less, leave out whole streams",
    ),
    (
        "SAMPLE",
        "podspan does not leave frames out by chance, because a sensor cannot follow a stream with gaps; to \
         mirror less, leave out whole streams",
    ),
];
