//! Becoming root of a network of one's own.
//!
//! The lab needs `CAP_SYS_ADMIN` (to make network namespaces) and `CAP_NET_ADMIN` (to furnish
//! them). Without root both come from a user namespace, see `user_namespaces(7)`: the process
//! unshares one, maps its own user and group to 0 in it, and owns every network namespace that it
//! makes from then on. With root a fresh network namespace is enough. In both cases nothing of the
//! host's network is in reach afterwards.
//!
//! Invariant: the process has one thread while this runs. The kernel refuses `CLONE_NEWUSER` to a
//! process with more, and the other threads would keep the host's network.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, getgid, getuid};

use crate::error::{Error, Result};

/// Leaves the host's network, and becomes root of the own one where the process is not root.
///
/// To be called first in `main`, before any thread exists. Calling it again is harmless.
///
/// # Errors
/// [`Error::UserNamespace`] names the setting of this machine that forbids user namespaces.
/// [`Error::System`] where root itself may not unshare (a container without `CAP_SYS_ADMIN`), or
/// where the process has more than one thread.
pub fn enter() -> Result<()> {
    if may_furnish_networks() {
        return unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::system("making a network namespace as root", errno));
    }
    let (user, group) = (getuid(), getgid());
    match unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET) {
        Ok(()) => map_to_root(user, group),
        Err(Errno::EINVAL) => Err(Error::system(
            "making a user namespace from a process with several threads; \
             call user_namespace::enter() first in main",
            Errno::EINVAL,
        )),
        Err(errno) => Err(Error::UserNamespace {
            hint: hint(),
            source: errno.into(),
        }),
    }
}

fn may_furnish_networks() -> bool {
    [
        caps::Capability::CAP_SYS_ADMIN,
        caps::Capability::CAP_NET_ADMIN,
    ]
    .into_iter()
    .all(|capability| caps::has_cap(None, caps::CapSet::Effective, capability).unwrap_or_default())
}

/// Writes the maps that make `user` and `group` root. `setgroups` must be denied before an
/// unprivileged process may write its group map.
fn map_to_root(user: Uid, group: Gid) -> Result<()> {
    for (file, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {user} 1")),
        ("/proc/self/gid_map", format!("0 {group} 1")),
    ] {
        fs::write(file, &text).map_err(|source| Error::UserNamespace {
            hint: format!("Writing {text:?} to {file} was refused. {}", hint()),
            source,
        })?;
    }
    Ok(())
}

/// The settings that are known to forbid user namespaces, each with the value that allows them,
/// those first that do forbid them here.
fn hint() -> String {
    let settings = [
        ("kernel.unprivileged_userns_clone", "1", "0"),
        ("kernel.apparmor_restrict_unprivileged_userns", "0", "1"),
        ("user.max_user_namespaces", "10000", "0"),
    ];
    let mut culprits = Vec::new();
    for (name, good, bad) in settings {
        if read_sysctl(name).is_ok_and(|value| value.trim() == bad) {
            culprits.push(format!("`sysctl {name}={good}` (here it is {bad})"));
        }
    }
    if culprits.is_empty() {
        "None of kernel.unprivileged_userns_clone, user.max_user_namespaces and \
         kernel.apparmor_restrict_unprivileged_userns forbids it here; a seccomp profile of the \
         container around this process does."
            .to_owned()
    } else {
        format!("Allow it with {}.", culprits.join(" and "))
    }
}

fn read_sysctl(name: &str) -> io::Result<String> {
    fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_a_remedy() {
        let text = Error::UserNamespace {
            hint: hint(),
            source: Errno::EPERM.into(),
        }
        .to_string();
        assert!(
            text.contains("user.max_user_namespaces") || text.contains("sysctl "),
            "{text}"
        );
        assert!(text.contains("as root"), "{text}");
    }
}
