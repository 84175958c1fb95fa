//! Why `podspan-sensor` ends: texts that name what was tried, and what to do.

use std::io;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The arguments are wrong.
    #[error("{0}; see podspan-sensor --help")]
    Usage(String),
    /// The capability for the device is missing.
    #[error(
        "cannot {doing}: no permission. `device` needs the capability NET_ADMIN and user 0: run it in an \
         init container with securityContext {{runAsUser: 0, runAsNonRoot: false, capabilities: \
         {{drop: [ALL], add: [NET_ADMIN, NET_RAW]}}}}"
    )]
    NetAdmin {
        /// What was tried.
        doing: String,
    },
    /// The capability for capturing is missing.
    #[error(
        "cannot capture on {interface}: no permission. `capture` needs the capability NET_RAW: add it in \
         the container's securityContext (capabilities.add: [NET_RAW]); as another user than 0 the \
         program also needs the file capability (setcap cap_net_raw+p in the image)"
    )]
    NetRaw {
        /// The interface.
        interface: String,
    },
    /// The UDP port is in use by another device or socket.
    #[error(
        "cannot make the vxlan device {name}: UDP port {port} is in use in this network namespace. On a \
         node (hostNetwork) it may be the pod network's own: choose another --port, and set the same in \
         the pod's annotation podspan.dev/port"
    )]
    PortInUse {
        /// The device.
        name: String,
        /// The port.
        port: u16,
    },
    /// A device of the name exists and is another one.
    #[error(
        "the device {name} exists and is another one: {difference}. Choose another --name, or delete the \
         device (ip link delete {name})"
    )]
    OtherDevice {
        /// The device.
        name: String,
        /// What differs.
        difference: String,
    },
    /// The kernel refused the packet filter.
    #[error(
        "cannot keep the frames of {name} away from this pod's own IP stack: {source}. The kernel needs \
         nf_tables with the family netdev (CONFIG_NF_TABLES_NETDEV). Without it use the form that \
         captures on eth0, which needs no device"
    )]
    Isolation {
        /// The device.
        name: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Another refusal of the system.
    #[error("cannot {doing}: {reason}")]
    System {
        /// What was tried.
        doing: String,
        /// What the system said.
        reason: String,
    },
}

impl Error {
    pub(crate) fn system(doing: impl Into<String>, reason: &dyn ToString) -> Self {
        Self::System {
            doing: doing.into(),
            reason: reason.to_string(),
        }
    }

    /// The code of sysexits.h for this cause.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::NetAdmin { .. } | Self::NetRaw { .. } => 77,
            Self::PortInUse { .. }
            | Self::OtherDevice { .. }
            | Self::Isolation { .. }
            | Self::System { .. } => 71,
        }
    }
}

impl From<lexopt::Error> for Error {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}
