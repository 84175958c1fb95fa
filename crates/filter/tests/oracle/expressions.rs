//! Expressions: a generator that follows the grammar, and lists.

use crate::random::Random;

/// Examples of pcap-filter(7) and tcpdump(8), with addresses in the place of names.
pub(crate) const MANUAL: &[&str] = &[
    "host 10.0.0.1",
    "host 10.0.0.1 and (10.1.2.3 or 192.168.1.7)",
    "ip host 10.0.0.1 and not 10.1.2.3",
    "net 10.0.0.0/8",
    "port ftp or ftp-data",
    "ip and not net 10.0.0.0/8",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and not src and dst net 10.0.0.0/8",
    "tcp[tcpflags] & (tcp-rst|tcp-ack) == (tcp-rst|tcp-ack)",
    "tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)",
    "ip[2:2] > 576",
    "ether[0] & 1 = 0 and ip[16] >= 224",
    "icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply",
    "icmp6[icmp6type] != icmp6-echo and icmp6[icmp6type] != icmp6-echoreply",
    "vlan 100 && vlan 200",
    "vlan && vlan 300 && ip",
    "mpls 100000 && mpls 1024",
    "mpls && mpls 1024 && host 192.9.200.1",
    "tcp dst port ftp or ftp-data or domain",
    "not host 10.0.0.1 and 10.1.2.3",
    "not (host 10.0.0.1 or 10.1.2.3)",
    "ip6 protochain 44",
    "ether[0] & 1 != 0",
    "ip[0] & 0xf != 5",
    "ip[6:2] & 0x1fff = 0",
    "tcp[0] = 0",
];

/// Each primitive, in each form.
pub(crate) const PRIMITIVES: &[&str] = &[
    "",
    "ip",
    "ip6",
    "arp",
    "rarp",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmp6",
    "igmp",
    "pim",
    "vrrp",
    "ah",
    "esp",
    "src host 10.0.0.1",
    "dst 10.0.0.1",
    "src or dst host 10.0.0.1",
    "src and dst host 10.0.0.1",
    "host 80",
    "net 10",
    "net 10.1",
    "net 192.168.1",
    "net 10.0.0.0 mask 255.0.255.0",
    "net 0.0.0.0/0",
    "net 10.0.0.1/32",
    "arp net 10.0.0.0/8",
    "arp host 10.0.0.1",
    "rarp src host 10.0.0.1",
    "ip6 host fd00::1",
    "net 2001:db8::/32",
    "net 2001:db8::/33",
    "net 2001:db8::/61",
    "net fe80::/10",
    "src net ::/1",
    "ip6 dst net ff00::/8",
    "ether host 02:00:00:00:00:01",
    "ether src 2-0-0-0-0-1",
    "ether dst 0200.0000.0002",
    "ether src and dst host 020000000001",
    "port 80",
    "src port 80",
    "dst port http",
    "src and dst port 53",
    "port (80 or 443)",
    "port (80 or (443 and 53))",
    "tcp dst port (80 or not 443) or 53",
    "host (10.0.0.1 and not 10.1.2.3)",
    "port not 80",
    "port not not 80",
    "not port not 80 and tcp",
    "port not (80 or 443)",
    "src net (10.0.0.0/8 or 192.168.0.0/16)",
    "ip proto (\\tcp or \\udp)",
    "port 80 or not 443",
    "udp port domain",
    "sctp portrange 6000-6010",
    "portrange 443",
    "src portrange 6010-6000",
    "tcp dst portrange http-https",
    "ip proto 1",
    "ip proto \\udp",
    "ip6 proto 58",
    "proto 6",
    "proto \\sctp",
    "ether proto 0x0800",
    "ether proto \\arp",
    "ether proto 0x88cc",
    "protochain 6",
    "ip protochain 17",
    "ip6 protochain \\tcp",
    "ip6 protochain 59",
    "broadcast",
    "ether broadcast",
    "multicast",
    "ether multicast",
    "ip multicast",
    "ip6 multicast",
    "less 60",
    "greater 60",
    "len > 64",
    "length = 54",
    "vlan",
    "vlan 100",
    "vlan and tcp",
    "ip or vlan or ip",
    "vlan and vlan and ip",
    "mpls",
    "mpls 5",
    "mpls and ip6",
    "mpls and mpls and tcp port 80",
    "vlan and mpls",
    "ether[12:2] = 0x800",
    "link[0] = 2",
    "ip[9] = 6",
    "ip[12:4] = 0x0a000001",
    "ip6[6] = 58",
    "arp[6:2] = 1",
    "tcp[2:2] = 80",
    "udp[0:2] != 53",
    "sctp[0:2] > 80",
    "icmp[0] = 8",
    "icmp6[0] = 128",
    "igmp[0] = 1",
    "tcp[(tcp[12] & 0xf0) >> 2] = 0x61",
    "ip[ip[0] & 0xf] = 1",
    "ip[0] + ip[1] * 2 > 60",
    "ip[2:2] = len - 14",
    "-ip[8] < 0xffffff00",
    "ip[8] % 10 = 4",
    "ip[8] ^ 0x40 = 0",
    "1 + 2 * 3 = 7",
    "4 ^ 1 + 2 = 7",
    "ip[0] / 16 = 4",
    "0x40 <= ip[0]",
    "10 > ip[8]",
    "not tcp",
    "!(tcp or udp)",
    "not not tcp",
    "tcp or udp and port 80",
    "tcp and udp or port 80",
];

/// Expressions with `vlan`, for tags beside the frame.
pub(crate) const VLAN: &[&str] = &[
    "vlan",
    "not vlan",
    "vlan 100",
    "vlan 5 and ip",
    "vlan and tcp port 80",
    "vlan and vlan",
    "vlan and vlan 200",
    "vlan 100 and vlan 200 and udp",
    "vlan and host 10.0.0.1",
    "vlan and (ip6 or udp port 53)",
    "vlan and not tcp",
];

/// An expression about whatever a frame has.
pub(crate) fn expression(random: &mut Random) -> String {
    let mut generator = Generator {
        random,
        has_link: true,
        mpls: false,
    };
    let depth = 1 + generator.random.below(3);
    generator.expression(depth)
}

/// An expression that does not need a link header.
pub(crate) fn without_link(random: &mut Random) -> String {
    let mut generator = Generator {
        random,
        has_link: false,
        mpls: false,
    };
    let depth = 1 + generator.random.below(3);
    generator.expression(depth)
}

struct Generator<'a> {
    random: &'a mut Random,
    has_link: bool,
    /// Whether `mpls` came before: then libpcap refuses much.
    mpls: bool,
}

const HOSTS: [&str; 6] = [
    "10.0.0.1",
    "10.1.2.3",
    "192.168.1.7",
    "224.0.0.251",
    "0.0.0.80",
    "10.0.0.2",
];
const HOSTS6: [&str; 5] = [
    "fd00::1",
    "2001:db8::5",
    "fe80::1",
    "ff02::fb",
    "2001:db8::6",
];
const NETS: [&str; 9] = [
    "10.0.0.0/8",
    "10.0.0.0/24",
    "192.168.0.0/16",
    "10",
    "192.168.1",
    "0.0.0.0/0",
    "128.0.0.0/1",
    "10.0.0.0/29",
    "10.1.2.2/31",
];
const NETS6: [&str; 6] = [
    "fd00::/8",
    "2001:db8::/32",
    "fe80::/10",
    "2001:db8::/125",
    "::/1",
    "2001:db8::4/126",
];
const MACS: [&str; 4] = [
    "02:00:00:00:00:01",
    "02:00:00:00:00:02",
    "ff:ff:ff:ff:ff:ff",
    "01:00:5e:00:00:fb",
];
const PORTS: [&str; 9] = [
    "53", "80", "443", "8080", "6005", "40000", "domain", "http", "0",
];
const RANGES: [&str; 5] = ["50-90", "6000-6010", "443-443", "0-1023", "1024-65535"];
const PROTOCOLS: [&str; 12] = [
    "6", "17", "1", "58", "132", "59", "44", "\\tcp", "\\udp", "50", "\\icmp", "89",
];

impl Generator<'_> {
    fn expression(&mut self, depth: usize) -> String {
        let mut text = self.operand(depth);
        for _ in 0..self.random.below(4) {
            let join = self.random.one(&["and", "or", "and", "or", "&&", "||"]);
            text = format!("{text} {join} {}", self.operand(depth));
        }
        text
    }

    fn operand(&mut self, depth: usize) -> String {
        let not = if self.random.once_in(4) {
            self.random.one(&["not ", "!", "not not "])
        } else {
            ""
        };
        if depth > 1 && self.random.once_in(3) {
            return format!("{not}({})", self.expression(depth - 1));
        }
        format!("{not}{}", self.primitive())
    }

    fn primitive(&mut self) -> String {
        if self.has_link && self.random.once_in(12) {
            return self.link_primitive();
        }
        match self.random.below(14) {
            0 | 1 => self.protocol(),
            2 | 3 => self.host(),
            4 => self.net(),
            5..=7 => self.port(),
            8 => {
                let protocol = self.random.one(&["", "ip ", "ip6 "]);
                let chain = if self.random.once_in(6) { "chain" } else { "" };
                format!("{protocol}proto{chain} {}", self.random.one(&PROTOCOLS))
            }
            9 if self.has_link => self
                .random
                .one(&["less 60", "greater 62", "len > 54"])
                .to_owned(),
            10 => self
                .random
                .one(&["ip multicast", "ip6 multicast"])
                .to_owned(),
            _ => self.relation(),
        }
    }

    fn link_primitive(&mut self) -> String {
        let direction = self
            .random
            .one(&["src", "dst", "host", "src or dst", "src and dst"]);
        match self.random.below(7) {
            0 => format!("ether {direction} {}", self.random.one(&MACS)),
            1 => self
                .random
                .one(&["broadcast", "multicast", "ether multicast"])
                .to_owned(),
            2 if !self.mpls => {
                let number = self
                    .random
                    .one(&["0x800", "0x86dd", "0x88cc", "\\arp", "\\ip"]);
                format!("ether proto {number}")
            }
            3 | 4 if !self.mpls => self.random.one(&["vlan", "vlan 100", "vlan 5"]).to_owned(),
            5 => {
                self.mpls = true;
                self.random.one(&["mpls", "mpls 5", "mpls 1024"]).to_owned()
            }
            _ => format!(
                "ether[{}] = {}",
                self.random.below(14),
                self.random.below(4)
            ),
        }
    }

    fn protocol(&mut self) -> String {
        let all = [
            "ip", "ip6", "tcp", "udp", "icmp", "icmp6", "sctp", "igmp", "esp", "pim", "vrrp",
            "arp", "rarp",
        ];
        let usable = if self.mpls || !self.has_link { 11 } else { 13 };
        self.random.one(&all[..usable]).to_owned()
    }

    fn direction(&mut self) -> &'static str {
        self.random
            .one(&["", "", "src ", "dst ", "src or dst ", "src and dst "])
    }

    fn host(&mut self) -> String {
        let direction = self.direction();
        let (protocols, hosts): (&[&str], &[&str]) = match self.random.below(3) {
            0 => (&["", "ip6 "], &HOSTS6),
            _ if self.mpls => (&["ip "], &HOSTS),
            _ if !self.has_link => (&["ip "], &HOSTS),
            _ => (&["", "", "ip ", "arp ", "rarp "], &HOSTS),
        };
        let protocol = self.random.one(protocols);
        let mut text = format!("{protocol}{direction}host {}", self.random.one(hosts));
        if self.random.once_in(4) {
            text = format!("{text} or {}", self.random.one(hosts));
        }
        text
    }

    fn net(&mut self) -> String {
        let direction = self.direction();
        if self.random.once_in(3) {
            return format!("{direction}net {}", self.random.one(&NETS6));
        }
        let protocol = if self.mpls || !self.has_link {
            "ip "
        } else {
            ""
        };
        format!("{protocol}{direction}net {}", self.random.one(&NETS))
    }

    fn port(&mut self) -> String {
        let protocol = self.random.one(&["", "tcp ", "udp ", "sctp "]);
        let direction = self.direction();
        if self.random.once_in(3) {
            return format!(
                "{protocol}{direction}portrange {}",
                self.random.one(&RANGES)
            );
        }
        let mut usable = &PORTS[..];
        if protocol == "udp " || protocol == "sctp " {
            usable = &PORTS[..6];
        }
        let mut text = format!("{protocol}{direction}port {}", self.random.one(usable));
        while self.random.once_in(3) {
            text = format!("{text} or {}", self.random.one(usable));
        }
        text
    }

    fn relation(&mut self) -> String {
        let comparison = self.random.one(&["=", "!=", "<", "<=", ">", ">=", "=="]);
        let left = match self.random.below(8) {
            0 if self.has_link => format!("len - {}", self.number()),
            _ => self.calculation(2),
        };
        match self.random.below(4) {
            0 => format!("{left} {comparison} {}", self.calculation(1)),
            1 => format!("{} {comparison} {left}", self.number()),
            _ => format!("{left} {comparison} {}", self.number()),
        }
    }

    fn number(&mut self) -> String {
        match self.random.below(4) {
            0 => self
                .random
                .one(&["0", "0x10", "64", "tcp-syn", "0xff", "010", "icmp-echo"])
                .to_owned(),
            _ => self.random.below(300).to_string(),
        }
    }

    /// A calculation. All of its accesses are of one protocol, because libpcap forgets what the right
    /// side of an operator requires of the frame.
    fn calculation(&mut self, depth: usize) -> String {
        let names: &[&str] = &[
            "ip", "ip", "ip6", "tcp", "tcp", "udp", "icmp", "icmp6", "sctp", "ether",
        ];
        let usable = if self.has_link {
            names.len()
        } else {
            names.len() - 1
        };
        let name = self.random.one(&names[..usable]);
        self.calculation_of(name, depth)
    }

    fn calculation_of(&mut self, name: &str, depth: usize) -> String {
        if depth == 0 || self.random.once_in(2) {
            return self.access(name, depth);
        }
        let left = self.calculation_of(name, depth - 1);
        match self.random.below(8) {
            0..=2 => {
                let mask =
                    self.random
                        .one(&["0xf", "0xf0", "1", "0x1fff", "tcp-syn|tcp-ack", "0xc0"]);
                format!("({left} & ({mask}))")
            }
            3 => format!(
                "({left} {} {})",
                self.random.one(&["<<", ">>"]),
                self.random.below(6)
            ),
            4 => format!(
                "({left} {} {})",
                self.random.one(&["/", "%"]),
                1 + self.random.below(9)
            ),
            5 => format!(
                "{left} {} {}",
                self.random.one(&["+", "-", "^"]),
                self.number()
            ),
            6 => format!("-{left}"),
            _ => {
                let operator = self.random.one(&["+", "-", "*", "&", "|", "^"]);
                format!("({left} {operator} {})", self.access(name, depth - 1))
            }
        }
    }

    fn access(&mut self, name: &str, depth: usize) -> String {
        let offset = if depth > 1 && self.random.once_in(6) {
            format!("{} & 0x1f", self.access(name, 0))
        } else {
            self.random
                .below(if name == "ip6" { 40 } else { 20 })
                .to_string()
        };
        match self.random.below(3) {
            0 => format!("{name}[{offset}:2]"),
            1 => format!("{name}[{offset}:4]"),
            _ => format!("{name}[{offset}]"),
        }
    }
}
