//! The settings, each declared once: name, field, type, fallback, what is expected, text and example.
//!
//! To add one, add a declaration here, and a type in `values` where none fits. Everything else follows
//! from it, see [`settings!`]; then write `docs/configuration.md` anew. No other module reads an
//! environment variable.

use std::num::NonZeroU16;

use discovery::Receiver;
use mirror::{SourcePorts, Spread};
use serde::Deserialize;
use wire::{Mtu, Vni};

use super::bounds::{RingSize, StartWait};
use super::names::{FileNames, HostName, Namespace, Namespaces, ObjectName, PodUid};
use super::reading::{Reading, Setting};
use super::sensor::Sensor;
use super::values::{Field, Interfaces, LogFormat, LogLevel, OnFailure, Prefer};
use super::variable::{Fallback, Variable, settings};

settings! {
    /// Where the copies go.
    SENSOR sensor: Sensor {
        required,
        expected: "a name, or addresses as ip, ip:port or [ip6]:port, separated by commas",
        text: "Where the copies go. A name stands for the pods that carry the label run=<name>, which \
               podspan finds and follows. With several sensors SPREAD says what goes to which. An \
               address without a port uses SENSOR_PORT.",
        example: "zeek",
    }

    /// What is captured.
    INTERFACE interface: Interfaces {
        default: "eth0",
        expected: "names of network interfaces, separated by commas",
        text: "The interfaces to mirror. One that does not exist yet is waited for.",
        example: "eth0,net1",
    }

    /// The network identifier in the VXLAN header.
    VNI vni: Vni {
        default: "0",
        expected: "a number from 0 to 16777215, decimal, or hexadecimal with 0x in front",
        text: "The VXLAN network identifier of the copies, 24 bits. Coming from the old script: it read \
               the value as hexadecimal, so its VNI=10 is VNI=0x10 here.",
        example: "0x1a",
    }

    /// Where a sensor's name is looked up; none: in our own namespace.
    SENSOR_NAMESPACE sensor_namespace: Namespaces {
        unset: "podspan's own namespace",
        expected: "the name of a namespace, or * for all",
        text: "The namespace in which a sensor's name is looked up. With * everyone who may create a \
               pod in any namespace can receive the traffic.",
        example: "monitoring",
    }

    /// The destination port where nothing else names one.
    SENSOR_PORT sensor_port: NonZeroU16 {
        default: "4789",
        expected: "a UDP port from 1 to 65535",
        text: "The UDP port of sensors found by name that declare none by the annotation \
               podspan.dev/port, and of addresses in SENSOR that name none. What Kubernetes itself puts \
               here where there is a Service named sensor (tcp://...) is ignored.",
        example: "4789",
    }

    /// Which of the sensors found by name are used.
    SENSOR_PREFER sensor_prefer: Prefer {
        default: "node",
        expected: "node or any",
        text: "node: while a sensor found by name runs on this node and does not fail, only those of \
               this node are used. any: all of them are.",
        example: "any",
    }

    /// How sensors that declare nothing take the copies in.
    RECEIVER receiver: Receiver {
        default: "sniffer",
        expected: "sniffer or socket",
        text: "How sensors without the annotation podspan.dev/receiver take the copies in. sniffer: by \
               capturing on an interface; always right. socket: by a UDP socket or a kernel vxlan device, which allows \
               cheaper sending.",
        example: "socket",
    }

    /// What goes to one sensor.
    SPREAD spread: Spread {
        default: "hosts",
        expected: "hosts or flows",
        text: "What goes to one of several sensors. hosts: all that two hosts exchange, so that a sensor \
               sees a connection together with the one that announced it. flows: each connection by \
               itself, for a pod that talks with few hosts.",
        example: "flows",
    }

    /// How many source ports the copies leave by.
    SOURCE_PORTS source_ports: SourcePorts {
        default: "1",
        expected: "1, 2, 4, 8 or 16",
        text: "From how many UDP ports the copies are sent. 1: a sensor gets all copies in the order in \
               which the frames crossed. More, for a sensor whose network card spreads its load by the \
               outer ports: the order is kept for what two hosts exchange, and given up between others.",
        example: "4",
    }

    /// The node that we run on.
    NODE_NAME node_name: ObjectName {
        unset: "no node is preferred",
        expected: "the name of a Kubernetes node",
        text: "The node that this pod runs on, from the downward API (spec.nodeName).",
        example: "worker-1",
    }

    /// Our pod.
    POD_NAME pod_name: ObjectName {
        unset: "unknown",
        expected: "the name of a Kubernetes pod",
        text: "The name of this pod, from the downward API (metadata.name).",
        example: "shop-7d4b9c6f5-x2x7k",
    }

    /// Our namespace.
    POD_NAMESPACE pod_namespace: Namespace {
        unset: "that of the service account",
        expected: "the name of a Kubernetes namespace",
        text: "The namespace of this pod, from the downward API (metadata.namespace).",
        example: "shop",
    }

    /// Our pod's unique identifier.
    POD_UID pod_uid: PodUid {
        unset: "unknown",
        expected: "the UID of a Kubernetes pod",
        text: "The UID of this pod, from the downward API (metadata.uid), so that podspan does not take \
               its own pod for a sensor found by name.",
        example: "0f4d2a55-9c1e-4f9a-8a49-1c1f6f2f7d10",
    }

    /// Where the API server is, as the kubelet says it to pods.
    KUBERNETES_SERVICE_HOST kubernetes_service_host: HostName {
        unset: "a kubeconfig is used",
        expected: "an IP address or a host's name",
        text: "Where the API server is. The kubelet sets it in every pod; together with \
               KUBERNETES_SERVICE_PORT it makes podspan use the pod's service account.",
        example: "10.96.0.1",
    }

    /// Its port.
    KUBERNETES_SERVICE_PORT kubernetes_service_port: NonZeroU16 {
        unset: "a kubeconfig is used",
        expected: "a TCP port from 1 to 65535",
        text: "The API server's port. The kubelet sets it in every pod.",
        example: "443",
    }

    /// Kubeconfig files, which count before the kubelet's word.
    KUBECONFIG kubeconfig: FileNames {
        unset: "in a pod the service account, else ~/.kube/config",
        expected: "paths of kubeconfig files, separated by colons",
        text: "To find a sensor by name from outside of a cluster, or with other rights than the pod's: \
               kubeconfig files as kubectl takes them.",
        example: "/etc/podspan/kubeconfig",
    }

    /// Upper bound for the outer packet; none: what the routes say.
    MTU mtu: Mtu {
        unset: "from the route to each sensor",
        expected: "a number of bytes from 1280 to 65535",
        text: "An upper bound for the outer packet, its IP header included, where the path to the \
               sensors takes less than the route says. The copied frame has 50 bytes less over IPv4 \
               and 70 less over IPv6.",
        example: "1450",
    }

    /// Memory of each interface's ring.
    RING_SIZE ring_size: RingSize {
        default: "32MiB",
        expected: "a size from 2MiB to 4GiB, in bytes or with KiB, MiB or GiB",
        text: "Memory for captured frames that wait to be sent, for each interface; rounded up to whole \
               MiB. It is kernel memory of the node and not charged to the container's limit.",
        example: "64MiB",
    }

    /// How long frames wait for the first view of the sensors.
    START_WAIT start_wait: StartWait {
        default: "5s",
        expected: "a time from 0s to 60s, in whole s or ms",
        text: "Where SENSOR is a name: how long frames captured at the start wait in memory until the API \
               server has named the sensors, at most until half of a ring is in use. Then they count as \
               no_sensor. 0s: they do not wait.",
        example: "10s",
    }

    /// What a start that fails does.
    ON_FAILURE on_failure: OnFailure {
        default: "exit",
        expected: "exit or idle",
        text: "What happens when podspan cannot start. exit: it ends with an exit code, and a native \
               sidecar can hold its pod in Init:CrashLoopBackOff. idle: it stays alive without mirroring, \
               logs why, and tries again after 1 s, then more and more rarely, at least each minute; \
               wrong settings need a new container. What fails once the capabilities are dropped ends it in \
               any case.",
        example: "idle",
    }

    /// Which lines are logged.
    LOG log: LogLevel {
        default: "info",
        expected: "error, warn, info, debug or trace",
        text: "The least important level that is logged, on standard error.",
        example: "debug",
    }

    /// How they are written.
    LOG_FORMAT log_format: LogFormat {
        default: "text",
        expected: "text or json",
        text: "text: lines for people. json: one JSON object a line.",
        example: "json",
    }
}
