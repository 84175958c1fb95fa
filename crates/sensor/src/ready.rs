//! `ready`: whether a capture runs in this network namespace, for a startup probe.
//!
//! A container is Ready when its process has been started, some time before it captures. Copies that arrive
//! in between are lost. The kernel lists packet sockets in `/proc/net/packet`
//! (`packet_seq_show` in `net/packet/af_packet.c`), which anybody may read.

use std::fs;

use crate::error::Error;

const TABLE: &str = "/proc/net/packet";

/// Succeeds when a packet socket is bound and receives.
pub(crate) fn run() -> Result<(), Error> {
    let table = fs::read_to_string(TABLE)
        .map_err(|error| Error::system(format!("read {TABLE}"), &error))?;
    if captures(&table) {
        Ok(())
    } else {
        Err(Error::system(
            "find a capture",
            &"no packet socket is bound",
        ))
    }
}

/// The columns are `sk RefCnt Type Proto Iface R Rmem User Inode`; `R` says whether the socket receives.
/// Before podspan's ring is bound, it has no protocol and does not receive.
fn captures(table: &str) -> bool {
    table
        .lines()
        .skip(1)
        .any(|line| line.split_whitespace().nth(5) == Some("1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n";

    #[test]
    fn a_bound_socket_captures() {
        let bound = "ffff888003d1a000 3      3    0003   2     1 0      65532  21846\n";
        let opened = "ffff888003d1a000 3      3    0000   0     0 0      65532  21846\n";
        assert!(captures(&[HEAD, opened, bound].concat()));
        assert!(!captures(&[HEAD, opened].concat()));
        assert!(!captures(HEAD));
        assert!(!captures(""));
    }
}
