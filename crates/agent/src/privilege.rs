//! The texts for an operator who has granted too few privileges. [`capture::privilege`] raises and drops
//! them.

/// What a container that runs as root needs in its entry of the manifest.
const AS_ROOT: &str = "\
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
    add: [NET_RAW]
";

/// What a container that does not run as root needs in addition to the file capability on the binary.
const AS_USER: &str = "\
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
    add: [NET_RAW]
";

/// What Pod Security `baseline` allows: nothing is added, and the capabilities that containerd grants by
/// default are dropped by name, except `NET_RAW`.
const UNDER_BASELINE: &str = "\
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop: [AUDIT_WRITE, CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, MKNOD,
           NET_BIND_SERVICE, SETFCAP, SETGID, SETPCAP, SETUID, SYS_CHROOT]
";

/// What a container on an old kernel needs.
const ON_OLD_KERNEL: &str = "\
securityContext:
  capabilities:
    drop: [ALL]
    add: [NET_RAW, NET_ADMIN]
";

/// The first Linux on which marking needs only `NET_RAW` (`sock_set_mark` in `net/core/sock.c`).
const MARK_NEEDS_ONLY_NET_RAW: (u32, u32) = (5, 17);

/// The text for the operator when the packet socket was opened but this kernel refused the mark. The
/// process then ends with [`crate::exit::Exit::NoPermission`].
#[must_use]
pub fn refused_mark_text(release: &str) -> String {
    let refused = "the kernel refuses to mark podspan's own datagrams (SO_MARK); without the mark \
                   they would be captured again";
    if version(release).is_some_and(|version| version >= MARK_NEEDS_ONLY_NET_RAW) {
        return format!(
            "{refused}.\n\
             The process has NET_RAW, and Linux {release} requires no other capability (5.17 and\n\
             newer), so something else refuses: allow setsockopt(SO_MARK) in the container's seccomp\n\
             profile or in the node's security module.",
        );
    }
    format!(
        "{refused}.\n\
         This node runs Linux {release}. The process has NET_RAW, but before Linux 5.17 the mark needs\n\
         NET_ADMIN. Use nodes with Linux 5.17 or newer, or add NET_ADMIN to podspan's container:\n\n\
         {}",
        indented(ON_OLD_KERNEL),
    )
}

/// The first two numbers of a kernel's release, such as `5.10.0-28-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

/// The text for the operator when the `NET_RAW` capability is missing: what to add to podspan's
/// container. The process then ends with [`crate::exit::Exit::NoPermission`].
#[must_use]
pub fn missing_net_raw_text() -> String {
    format!(
        "the NET_RAW capability is missing; without it no traffic can be captured.\n\
         Add to podspan's container in the pod's manifest:\n\n{}\n\
         If the container must not run as root, this alone does not give the process the capability:\n\
         the podspan binary also needs the file capability cap_net_raw+p (setcap in the image's\n\
         build) and must be the container's entrypoint, without a shell before it. Then use:\n\n\
         {}\n\
         If Pod Security rejects the pod: the levels baseline and restricted forbid to add NET_RAW.\n\
         Label the namespace pod-security.kubernetes.io/enforce=privileged. Or, under baseline, as\n\
         root, and on containerd, which grants NET_RAW by default (CRI-O does not), use:\n\n{}",
        indented(AS_ROOT),
        indented(AS_USER),
        indented(UNDER_BASELINE),
    )
}

fn indented(snippet: &str) -> String {
    snippet
        .lines()
        .flat_map(|line| ["    ", line, "\n"])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_mark_names_the_kernel_and_the_remedy() {
        for old in ["5.10.0-28-amd64", "4.18.0-553.el8_10.x86_64", "5.16", "?"] {
            let text = refused_mark_text(old);
            assert!(text.contains(&format!("runs Linux {old}.")), "{text}");
            assert!(text.contains("add: [NET_RAW, NET_ADMIN]"), "{text}");
        }
        for new in ["5.17.0", "6.1.0-30-cloud", "10.0"] {
            let text = refused_mark_text(new);
            assert!(text.contains(&format!("Linux {new} requires")), "{text}");
            assert!(
                text.contains("seccomp") && !text.contains("NET_ADMIN"),
                "{text}"
            );
        }
    }

    #[test]
    fn the_snippets_parse_and_have_the_right_capabilities() {
        let parsed = |snippet: &str| -> serde_json::Value {
            serde_saphyr::from_str(snippet).unwrap_or_else(|error| panic!("{error}\n{snippet}"))
        };
        for snippet in [AS_ROOT, AS_USER] {
            let capabilities = &parsed(snippet)["securityContext"]["capabilities"];
            assert_eq!(capabilities["add"], serde_json::json!(["NET_RAW"]));
            assert_eq!(capabilities["drop"], serde_json::json!(["ALL"]));
        }
        let capabilities = &parsed(UNDER_BASELINE)["securityContext"]["capabilities"];
        assert!(capabilities.get("add").is_none());
        let dropped = capabilities["drop"].as_array().unwrap();
        assert_eq!(dropped.len(), 13);
        assert!(!dropped.contains(&"NET_RAW".into()) && !dropped.contains(&"ALL".into()));
    }

    #[test]
    fn the_snippets_parse_as_they_are_printed() {
        let text = missing_net_raw_text();
        let blocks = text.split("\n\n").filter(|block| block.starts_with("    "));
        let parsed: Vec<serde_json::Value> = blocks
            .map(|block| serde_saphyr::from_str(block).unwrap())
            .collect();
        assert_eq!(parsed.len(), 3, "{text}");
        assert!(
            parsed
                .iter()
                .all(|snippet| snippet["securityContext"].is_object()),
            "{text}"
        );
        for word in ["NET_RAW", "cap_net_raw+p", "Pod Security", "baseline"] {
            assert!(text.contains(word), "{word} is missing in:\n{text}");
        }
    }
}
