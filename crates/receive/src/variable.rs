//! The settings, each declared once.

use program::{Program, settings};

/// The program, for `--help` and the table of `docs/encryption.md`.
pub const PROGRAM: Program = Program {
    name: "podspan-receive",
    purpose: "ends the encrypted tunnels of podspans, and gives the copies to the sensor beside it.",
    settings: &SETTINGS,
};

settings! {
    LISTEN {
        default: "[::]:51820",
        expected: "an address with a UDP port",
        text: "Where podspans send to. [::] is all addresses, IPv4 too.",
        example: "0.0.0.0:51820",
    }

    PRIVATE_KEY_FILE {
        default: "/etc/podspan-receive/private-key",
        expected: "the absolute path of a file with a private key, as wg genkey prints it",
        text: "The sensor's private key. podspans have its public key, and send to nobody else. It is read once, at \
               the start.",
        example: "/etc/podspan-receive/private-key",
    }

    PRESHARED_KEYS_FILE {
        default: "/etc/podspan-receive/preshared-keys",
        expected: "the absolute path of a file with one or two pre-shared keys, a line each, as wg genpsk prints them",
        text: "The pre-shared key that podspans must have. During a rotation there are two. The file is read again \
               when it changes.",
        example: "/etc/podspan-receive/preshared-keys",
    }

    FORWARD {
        default: "127.0.0.1:4789",
        expected: "an address with a UDP port",
        text: "Where the copies go, as VXLAN datagrams: to a vxlan device or a UDP socket, or past a sensor that \
               captures on this interface.",
        example: "[::1]:4789",
    }

    RECEIVER {
        default: "sniffer",
        expected: "sniffer or socket",
        text: "What takes the copies at FORWARD. sniffer: a sensor that captures; the datagrams are sent one by one, \
               and podspan-receive keeps the port open. socket: a UDP socket or a vxlan device; several datagrams \
               are sent in one system call, which costs less.",
        example: "socket",
    }

    METRICS {
        default: "[::]:9470",
        expected: "an address with a TCP port, or off",
        text: "Where /metrics, /livez and /readyz are, by HTTP. off: nowhere.",
        example: "127.0.0.1:9470",
    }

    THREADS {
        default: "1",
        expected: "a number from 1 to 16",
        text: "How many threads decrypt. Each podspan belongs to one of them.",
        example: "2",
    }

    PEERS {
        default: "8192",
        expected: "a number from 1 to 16384",
        text: "How many podspans each thread takes. A podspan needs up to 22 KB.",
        example: "1000",
    }

    HANDSHAKES {
        default: "500",
        expected: "a number from 1 to 10000",
        text: "How many handshakes a second each thread answers for podspans that it does not know yet, and as many \
               for those it knows; half as many with two pre-shared keys. One takes about 0.5 ms.",
        example: "200",
    }
}
