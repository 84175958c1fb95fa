//! A machine of the lab; traffic and topology both use it.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::link::{Link, Mac};
use crate::namespace::Namespace;

/// One machine of the lab: a namespace with an `eth0`.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its network namespace.
    pub namespace: Namespace,
    /// Its interface.
    pub eth0: Link,
    /// The other end of its cable, in the node's namespace or in the router's.
    pub port: Link,
    /// Its IPv4 address.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
    /// The Ethernet address of its interface.
    pub mac: Mac,
}
