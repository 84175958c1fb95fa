//! When a cluster is ready for tests: later than kind says.
//!
//! kind waits until the control plane is Ready. `CoreDNS`, the rules of kube-proxy for them and the routes
//! between the nodes follow some seconds later, and a finished roll-out is still too early. So each
//! node is asked: a name must resolve several times in a row by the address of the DNS service, and
//! with podspan's pod network there must be a route to the pods of every other node.

use std::thread;
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::error::{Error, Result};
use super::state::Source;
use crate::programs::hex;

/// How long all of it may take; a busy machine needs a multiple of the usual 5 to 10 s.
const TIMEOUT: Duration = Duration::from_mins(3);

/// How many answers in a row are enough.
const ANSWERS: u32 = 3;

/// Waits for nodes, names, routes, and for the service account that pods need.
pub(super) fn wait(cluster: &Cluster) -> Result<()> {
    cluster.wait("condition=Ready", &["node", "--all"], TIMEOUT)?;
    let begin = Instant::now();
    let check = check_of(cluster.nodes().len(), cluster.source());
    for node in cluster.nodes() {
        eventually(begin, &format!("names to resolve on {node}"), || {
            cluster.exec_in_node(node, &["bash", "-c", &check])
        })?;
    }
    let account = ["get", "serviceaccount", "default"];
    eventually(begin, "the service account", || cluster.kubectl(&account))
}

fn eventually(begin: Instant, what: &str, mut check: impl FnMut() -> Result<String>) -> Result<()> {
    loop {
        let Err(last) = check() else {
            return Ok(());
        };
        if begin.elapsed() > TIMEOUT {
            return Err(Error::Late {
                what: what.to_owned(),
                seconds: TIMEOUT.as_secs(),
                last: last.to_string(),
            });
        }
        thread::sleep(Duration::from_millis(300));
    }
}

/// What bash runs in a node. It sends a query over UDP and reads the number of answers, the fourth
/// 16-bit number of the reply: neither node image has a program that asks a given server. dd makes one
/// datagram of the query; printf itself would end one at each byte that is a line feed.
fn check_of(nodes: usize, source: Source) -> String {
    let query = query("kubernetes.default.svc.cluster.local");
    let query = query
        .iter()
        .fold(String::new(), |text, byte| text + "\\x" + &hex(&[*byte]));
    let names = format!(
        "server=$(kubectl --kubeconfig \"$config\" -n kube-system get service kube-dns \
         -o 'jsonpath={{.spec.clusterIP}}')\n\
         for round in $(seq {ANSWERS}); do\n\
         exec 3<>/dev/udp/$server/53\n\
         printf '{query}' | dd bs=512 iflag=fullblock status=none >&3\n\
         answers=$(timeout 1 dd bs=512 count=1 <&3 2>/dev/null | od -An -tu1 -j6 -N2 | tr -d ' \\n')\n\
         exec 3>&-\n\
         [ \"$answers\" = 01 ] || {{ echo \"no answer from $server: '$answers'\" >&2; exit 1; }}\n\
         done\n"
    );
    let config = "config=/etc/kubernetes/kubelet.conf\n";
    let routes = match source {
        Source::Published | Source::Given => String::new(),
        Source::Own => format!(
            "routes=$(ip -4 route show | grep -c '^10\\.244\\..* via ')\n\
             [ \"$routes\" = {} ] || {{ echo \"$routes routes to other nodes\" >&2; exit 1; }}\n",
            nodes.saturating_sub(1)
        ),
    };
    format!("{config}{routes}{names}")
}

/// A DNS query for the IPv4 address of a name (RFC 1035, section 4).
fn query(name: &str) -> Vec<u8> {
    let mut bytes = vec![0x70, 0x73, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_the_name_in_labels() {
        let bytes = query("a.bc");
        assert_eq!(bytes.len(), 12 + 2 + 3 + 1 + 4);
        assert_eq!(&bytes[12..], b"\x01a\x02bc\x00\x00\x01\x00\x01");
    }

    #[test]
    fn routes_are_asked_for_in_our_own_pod_network_only() {
        assert!(check_of(3, Source::Own).contains("[ \"$routes\" = 2 ]"));
        assert!(!check_of(3, Source::Published).contains("routes"));
    }
}
