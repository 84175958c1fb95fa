//! What is compared: mirrors, directions of the application's data, and kinds of rings. Pure.

use serde::Serialize;

/// What mirrors the pod's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Mirror {
    /// Nothing.
    #[serde(rename = "no mirror")]
    Nothing,
    /// tc mirred into a vxlan device, both directions.
    #[serde(rename = "tc mirred + vxlan")]
    Tc,
    /// podspan under its quota, to a sensor that is a vxlan device (`RECEIVER=socket`).
    #[serde(rename = "podspan")]
    Podspan,
    /// The same with a `FILTER` that rejects the application's traffic.
    #[serde(rename = "podspan, FILTER=not ip")]
    Rejecting,
}

impl Mirror {
    /// In their order in a round.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Tc, Self::Podspan, Self::Rejecting];

    /// The application and its client use IPv4.
    pub const REJECTING: &str = "not ip";

    /// The name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no mirror",
            Self::Tc => "tc mirred + vxlan",
            Self::Podspan => "podspan",
            Self::Rejecting => "podspan, FILTER=not ip",
        }
    }
}

/// Where the bulk data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Direction {
    /// From the client to the pod.
    #[serde(rename = "to the pod")]
    In,
    /// From the pod to the client.
    #[serde(rename = "from the pod")]
    Out,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::In, Self::Out];

    /// The name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "to the pod",
            Self::Out => "from the pod",
        }
    }
}

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Bulk TCP.
    Throughput,
    /// Requests at half load.
    Latency,
    /// What the capture itself costs.
    Ring,
}

impl Part {
    /// In this order.
    pub const ALL: [Self; 3] = [Self::Throughput, Self::Latency, Self::Ring];

    /// Its word for `--only`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::Ring => "ring",
        }
    }
}
