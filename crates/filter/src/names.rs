//! The fixed lists of names: constants, ports, protocols, types of frames.
//!
//! They are fixed because an expression must mean the same in every image. The names of ports are those
//! that a pod meets; everything else has a number. Sources: pcap-filter(7), the registries of IANA.

/// Constants: offsets of fields, and their values. One text needs no table of addresses in the program.
const CONSTANTS: &str = "\
    icmptype=0 icmpcode=1 icmp-echoreply=0 icmp-unreach=3 icmp-sourcequench=4 icmp-redirect=5 \
    icmp-echo=8 icmp-routeradvert=9 icmp-routersolicit=10 icmp-timxceed=11 icmp-paramprob=12 \
    icmp-tstamp=13 icmp-tstampreply=14 icmp-ireq=15 icmp-ireqreply=16 icmp-maskreq=17 \
    icmp-maskreply=18 icmp6type=0 icmp6code=1 icmp6-destinationunreach=1 icmp6-packettoobig=2 \
    icmp6-timeexceeded=3 icmp6-parameterproblem=4 icmp6-echo=128 icmp6-echoreply=129 \
    icmp6-multicastlistenerquery=130 icmp6-multicastlistenerreportv1=131 \
    icmp6-multicastlistenerdone=132 icmp6-routersolicit=133 icmp6-routeradvert=134 \
    icmp6-neighborsolicit=135 icmp6-neighboradvert=136 icmp6-redirect=137 icmp6-routerrenum=138 \
    icmp6-nodeinformationquery=139 icmp6-nodeinformationresponse=140 \
    icmp6-ineighbordiscoverysolicit=141 icmp6-ineighbordiscoveryadvert=142 \
    icmp6-multicastlistenerreportv2=143 icmp6-homeagentdiscoveryrequest=144 \
    icmp6-homeagentdiscoveryreply=145 icmp6-mobileprefixsolicit=146 icmp6-mobileprefixadvert=147 \
    icmp6-certpathsolicit=148 icmp6-certpathadvert=149 icmp6-multicastrouteradvert=151 \
    icmp6-multicastroutersolicit=152 icmp6-multicastrouterterm=153 tcpflags=13 tcp-fin=1 tcp-syn=2 \
    tcp-rst=4 tcp-push=8 tcp-ack=16 tcp-urg=32 tcp-ece=64 tcp-cwr=128";

/// The value of a constant.
pub(crate) fn constant(name: &str) -> Option<u32> {
    let mut all = CONSTANTS
        .split(' ')
        .filter_map(|entry| entry.split_once('='));
    let (_, value) = all.find(|(constant, _)| *constant == name)?;
    value.parse().ok()
}

/// The protocols that the name of a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortOf {
    Tcp,
    Udp,
    Both,
}

/// Names of ports.
pub(crate) const PORTS: &[(&str, u16, PortOf)] = &[
    ("ftp-data", 20, PortOf::Tcp),
    ("ftp", 21, PortOf::Tcp),
    ("ssh", 22, PortOf::Tcp),
    ("telnet", 23, PortOf::Tcp),
    ("smtp", 25, PortOf::Tcp),
    ("domain", 53, PortOf::Both),
    ("bootps", 67, PortOf::Udp),
    ("bootpc", 68, PortOf::Udp),
    ("tftp", 69, PortOf::Udp),
    ("http", 80, PortOf::Tcp),
    ("kerberos", 88, PortOf::Both),
    ("pop3", 110, PortOf::Tcp),
    ("ntp", 123, PortOf::Udp),
    ("imap2", 143, PortOf::Tcp),
    ("snmp", 161, PortOf::Both),
    ("snmp-trap", 162, PortOf::Both),
    ("bgp", 179, PortOf::Tcp),
    ("ldap", 389, PortOf::Both),
    ("https", 443, PortOf::Both),
    ("submission", 587, PortOf::Tcp),
    ("syslog", 514, PortOf::Udp),
    ("ldaps", 636, PortOf::Both),
    ("domain-s", 853, PortOf::Both),
    ("imaps", 993, PortOf::Tcp),
    ("pop3s", 995, PortOf::Tcp),
    ("nfs", 2049, PortOf::Both),
    ("mysql", 3306, PortOf::Tcp),
    ("sip", 5060, PortOf::Both),
    ("amqp", 5672, PortOf::Both),
    ("postgresql", 5432, PortOf::Tcp),
    ("amqps", 5671, PortOf::Tcp),
    ("redis", 6379, PortOf::Tcp),
];

/// Names of IP protocols, after `proto` and `protochain`.
pub(crate) const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("tcp", 6),
    ("igrp", 9),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("icmp6", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("ipip", 94),
    ("pim", 103),
    ("vrrp", 112),
    ("sctp", 132),
    ("udplite", 136),
];

/// Names of types of frames, after `ether proto`.
pub(crate) const ETHERTYPES: &[(&str, u16)] = &[
    ("ip", 0x0800),
    ("arp", 0x0806),
    ("rarp", 0x8035),
    ("ip6", 0x86dd),
    ("loopback", 0x9000),
];

/// Words of pcap-filter(7) that are left out, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "gateway",
        "it needs the names of hosts; say ether host MAC and not host ADDRESS",
    ),
    ("byte", "an access says the same: ether[0] = 1"),
    ("ifindex", "INTERFACE says which devices are mirrored"),
    ("pppoed pppoes", "pods do not speak PPPoE"),
    (
        "geneve",
        "its inner frame is not looked into; udp port 6081 selects it",
    ),
    (
        "vxlan",
        "its inner frame is not looked into; udp port 4789 selects it",
    ),
    ("ppp", "it is for PPP devices, which pods do not have"),
    ("slip", "it is for SLIP devices, which pods do not have"),
    (
        "radio type subtype direction dir addr1 addr2 addr3 addr4 address1 address2 address3 address4 ra ta",
        "it is for wireless devices, which pods do not have",
    ),
    (
        "atalk aarp decnet lat sca moprc mopdl iso esis es-is isis is-is l1 l2 iih lsp snp csnp psnp clnp stp ipx netbeui llc",
        "it is for protocols of IEEE 802.2, which pods do not speak",
    ),
    (
        "lane metac bcc oam oamf4 oamf4ec oamf4sc sc ilmic vpi vci connectmsg metaconnect",
        "it is for ATM devices, which pods do not have",
    ),
    (
        "on ifname rset ruleset rnr rulenum srnr subrulenum reason action",
        "it is for the log of the packet filter pf, which Linux does not have",
    ),
    (
        "fisu lssu lsu msu hfisu hlssu hmsu sio opc dpc sls hsio hopc hdpc hsls",
        "it is for devices of SS7 links, which pods do not have",
    ),
];

/// Why a word is left out, if it is.
pub(crate) fn left_out(name: &str) -> Option<&'static str> {
    let has = |words: &str| words.split(' ').any(|word| word == name);
    let found = LEFT_OUT.iter().find(|(words, _)| has(words));
    found.map(|(_, reason)| *reason)
}
