//! The one table of settings: name, type, default, text and example of each environment variable.
//!
//! From it come the defaults that parsing falls back on, the texts of errors, `--help`,
//! `--check-config` and `docs/configuration.md`. Tests hold it together with the fields that serde
//! reads and with the file on disk. No other module reads an environment variable.

/// One environment variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name, in capitals.
    pub name: &'static str,
    /// What is expected, as the end of the sentence "expected is ...".
    pub expected: &'static str,
    /// What holds when it is not set.
    pub fallback: Fallback,
    /// What it does: whole sentences for the operator.
    pub text: &'static str,
    /// A value that is valid.
    pub example: &'static str,
}

/// What holds when a variable is not set, or set to nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum Fallback {
    /// It must be set.
    Required,
    /// This value, parsed as if it had been set.
    Value(&'static str),
    /// No value; the words say what then happens.
    Unset(&'static str),
}

/// Where the copies go.
pub const SENSOR: Variable = Variable {
    name: "SENSOR",
    expected: "a name, or addresses as ip, ip:port or [ip6]:port, separated by commas",
    fallback: Fallback::Required,
    text: "Where the copies go. A name stands for the pods that carry the label run=<name>, which \
           podspan finds and follows. With several sensors SPREAD says what goes to which. An \
           address without a port uses SENSOR_PORT.",
    example: "zeek",
};

/// What is captured.
pub const INTERFACE: Variable = Variable {
    name: "INTERFACE",
    expected: "names of network interfaces, separated by commas",
    fallback: Fallback::Value("eth0"),
    text: "The interfaces to mirror. One that does not exist yet is waited for.",
    example: "eth0,net1",
};

/// The network identifier in the VXLAN header.
pub const VNI: Variable = Variable {
    name: "VNI",
    expected: "a number from 0 to 16777215, decimal, or hexadecimal with 0x in front",
    fallback: Fallback::Value("0"),
    text: "The VXLAN network identifier of the copies, 24 bits. Coming from the old script: it read \
           the value as hexadecimal, so its VNI=10 is VNI=0x10 here.",
    example: "0x1a",
};

/// Where sensors are looked up by name.
pub const SENSOR_NAMESPACE: Variable = Variable {
    name: "SENSOR_NAMESPACE",
    expected: "the name of a namespace, or * for all",
    fallback: Fallback::Unset("podspan's own namespace"),
    text: "The namespace in which a sensor's name is looked up. With * everyone who may create a \
           pod in any namespace can receive the traffic.",
    example: "monitoring",
};

/// The destination port where nothing else names one.
pub const SENSOR_PORT: Variable = Variable {
    name: "SENSOR_PORT",
    expected: "a UDP port from 1 to 65535",
    fallback: Fallback::Value("4789"),
    text: "The UDP port of sensors found by name that declare none by the annotation \
           podspan.dev/port, and of addresses in SENSOR that name none. What Kubernetes itself puts \
           here where there is a Service named sensor (tcp://...) is ignored.",
    example: "4789",
};

/// Which sensors come first.
pub const SENSOR_PREFER: Variable = Variable {
    name: "SENSOR_PREFER",
    expected: "node or any",
    fallback: Fallback::Value("node"),
    text: "node: while a sensor found by name runs on this node and does not fail, only those of \
           this node are used. any: all of them are.",
    example: "any",
};

/// How sensors take the copies in.
pub const RECEIVER: Variable = Variable {
    name: "RECEIVER",
    expected: "sniffer or socket",
    fallback: Fallback::Value("sniffer"),
    text: "How sensors without the annotation podspan.dev/receiver take the copies in. sniffer: by \
           capturing on an interface; always right. socket: by a UDP socket or a kernel vxlan device, which allows \
           cheaper sending.",
    example: "socket",
};

/// What goes to one sensor.
pub const SPREAD: Variable = Variable {
    name: "SPREAD",
    expected: "hosts or flows",
    fallback: Fallback::Value("hosts"),
    text: "What goes to one of several sensors. hosts: all that two hosts exchange, so that a sensor \
           sees a connection together with the one that announced it. flows: each connection by \
           itself, for a pod that talks with few hosts.",
    example: "flows",
};

/// How many source ports the copies leave by.
pub const SOURCE_PORTS: Variable = Variable {
    name: "SOURCE_PORTS",
    expected: "1, 2, 4, 8 or 16",
    fallback: Fallback::Value("1"),
    text: "From how many UDP ports the copies are sent. 1: a sensor gets all copies in the order in \
           which the frames crossed. More, for a sensor whose network card spreads its load by the \
           outer ports: the order is kept between any two hosts, and given up between others.",
    example: "4",
};

/// The node's name.
pub const NODE_NAME: Variable = Variable {
    name: "NODE_NAME",
    expected: "the name of a Kubernetes node",
    fallback: Fallback::Unset("no node is preferred"),
    text: "The node that this pod runs on, from the downward API (spec.nodeName).",
    example: "worker-1",
};

/// The pod's name.
pub const POD_NAME: Variable = Variable {
    name: "POD_NAME",
    expected: "the name of a Kubernetes pod",
    fallback: Fallback::Unset("unknown"),
    text: "The name of this pod, from the downward API (metadata.name).",
    example: "shop-7d4b9c6f5-x2x7k",
};

/// The pod's namespace.
pub const POD_NAMESPACE: Variable = Variable {
    name: "POD_NAMESPACE",
    expected: "the name of a Kubernetes namespace",
    fallback: Fallback::Unset("that of the service account"),
    text: "The namespace of this pod, from the downward API (metadata.namespace).",
    example: "shop",
};

/// The pod's unique identifier.
pub const POD_UID: Variable = Variable {
    name: "POD_UID",
    expected: "the UID of a Kubernetes pod",
    fallback: Fallback::Unset("unknown"),
    text: "The UID of this pod, from the downward API (metadata.uid), so that podspan does not take \
           its own pod for a sensor found by name.",
    example: "0f4d2a55-9c1e-4f9a-8a49-1c1f6f2f7d10",
};

/// Where the API server is, in a pod.
pub const KUBERNETES_SERVICE_HOST: Variable = Variable {
    name: "KUBERNETES_SERVICE_HOST",
    expected: "an IP address or a host's name",
    fallback: Fallback::Unset("a kubeconfig is used"),
    text: "Where the API server is. The kubelet sets it in every pod; together with \
           KUBERNETES_SERVICE_PORT it makes podspan use the pod's service account.",
    example: "10.96.0.1",
};

/// Its port.
pub const KUBERNETES_SERVICE_PORT: Variable = Variable {
    name: "KUBERNETES_SERVICE_PORT",
    expected: "a TCP port from 1 to 65535",
    fallback: Fallback::Unset("a kubeconfig is used"),
    text: "The API server's port. The kubelet sets it in every pod.",
    example: "443",
};

/// Where the API server is, outside of a cluster.
pub const KUBECONFIG: Variable = Variable {
    name: "KUBECONFIG",
    expected: "paths of kubeconfig files, separated by colons",
    fallback: Fallback::Unset("in a pod the service account, else ~/.kube/config"),
    text: "To find a sensor by name from outside of a cluster, or with other rights than the pod's: \
           kubeconfig files as kubectl takes them.",
    example: "/etc/podspan/kubeconfig",
};

/// Upper bound for the outer packet.
pub const MTU: Variable = Variable {
    name: "MTU",
    expected: "a number of bytes from 1280 to 65535",
    fallback: Fallback::Unset("from the route to each sensor"),
    text: "An upper bound for the outer packet, its IP header included, where the path to the \
           sensors takes less than the route says. The copied frame has 50 bytes less over IPv4 \
           and 70 less over IPv6.",
    example: "1450",
};

/// Memory of the capture ring.
pub const RING_SIZE: Variable = Variable {
    name: "RING_SIZE",
    expected: "a size from 2MiB to 4GiB, in bytes or with KiB, MiB or GiB",
    fallback: Fallback::Value("32MiB"),
    text: "Memory for captured frames that wait to be sent, for each interface; rounded up to whole \
           MiB. It is kernel memory of the node and not charged to the container's limit.",
    example: "64MiB",
};

/// How long frames wait for the sensors at the start.
pub const START_WAIT: Variable = Variable {
    name: "START_WAIT",
    expected: "a time from 0s to 60s, in whole s or ms",
    fallback: Fallback::Value("5s"),
    text: "Where SENSOR is a name: how long frames captured at the start wait in memory until the API \
           server has named the sensors, at most until half of a ring is in use. Then they count as \
           no_sensor. 0s: they do not wait.",
    example: "10s",
};

/// What a start that fails does.
pub const ON_FAILURE: Variable = Variable {
    name: "ON_FAILURE",
    expected: "exit or idle",
    fallback: Fallback::Value("exit"),
    text: "What happens when podspan cannot start. exit: it ends with an exit code, and a native \
           sidecar can hold its pod in Init:CrashLoopBackOff. idle: it stays alive without mirroring, \
           logs why, and tries again after 1 s, then more and more rarely, at least each minute; \
           wrong settings need a new container. What fails once the capabilities are dropped ends it in \
           any case.",
    example: "idle",
};

/// Which lines are logged.
pub const LOG: Variable = Variable {
    name: "LOG",
    expected: "error, warn, info, debug or trace",
    fallback: Fallback::Value("info"),
    text: "The least important level that is logged, on standard error.",
    example: "debug",
};

/// How lines are written.
pub const LOG_FORMAT: Variable = Variable {
    name: "LOG_FORMAT",
    expected: "text or json",
    fallback: Fallback::Value("text"),
    text: "text: lines for people. json: one JSON object a line.",
    example: "json",
};

/// Every variable, in the order in which they are shown.
pub const TABLE: [&Variable; 22] = [
    &SENSOR,
    &INTERFACE,
    &VNI,
    &SENSOR_NAMESPACE,
    &SENSOR_PORT,
    &SENSOR_PREFER,
    &RECEIVER,
    &SPREAD,
    &SOURCE_PORTS,
    &NODE_NAME,
    &POD_NAME,
    &POD_NAMESPACE,
    &POD_UID,
    &KUBERNETES_SERVICE_HOST,
    &KUBERNETES_SERVICE_PORT,
    &KUBECONFIG,
    &MTU,
    &RING_SIZE,
    &START_WAIT,
    &ON_FAILURE,
    &LOG,
    &LOG_FORMAT,
];
