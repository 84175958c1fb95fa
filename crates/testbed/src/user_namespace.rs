//! Becomes root of a separate network.
//!
//! The lab needs `CAP_SYS_ADMIN` (to make network namespaces) and `CAP_NET_ADMIN` (to configure
//! them). Without root both come from a user namespace, see `user_namespaces(7)`: the process
//! unshares one, maps its own user and group to 0 in it, and owns every network namespace that it
//! makes later. With root a new network namespace is enough. In both cases the process can no longer
//! reach the host's network.
//!
//! Invariant: the process has one thread while this runs. The kernel refuses `CLONE_NEWUSER` to a
//! process with more, and the other threads would keep the host's network.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, getgid, getuid};

use crate::error::{Error, Result};

/// Leaves the host's network. A process that is not root becomes root of the new one.
///
/// Called first in `main`, before any thread exists. A second call is harmless.
///
/// # Errors
/// [`Error::UserNamespace`] names the setting of this machine that forbids user namespaces.
/// [`Error::System`] where even root may not unshare (a container without `CAP_SYS_ADMIN`), or
/// where the process has more than one thread.
pub fn enter() -> Result<()> {
    if may_configure_networks() {
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

fn may_configure_networks() -> bool {
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

/// The settings that can forbid user namespaces. If some forbid them here, the text names those, each
/// with the value that allows them.
fn hint() -> String {
    let settings = [
        ("kernel.unprivileged_userns_clone", "1", "0"),
        ("kernel.apparmor_restrict_unprivileged_userns", "0", "1"),
        ("user.max_user_namespaces", "10000", "0"),
    ];
    let mut forbidding = Vec::new();
    for (name, good, bad) in settings {
        if read_sysctl(name).is_ok_and(|value| value.trim() == bad) {
            forbidding.push(format!("`sysctl {name}={good}` (here it is {bad})"));
        }
    }
    if forbidding.is_empty() {
        "None of kernel.unprivileged_userns_clone, user.max_user_namespaces and \
         kernel.apparmor_restrict_unprivileged_userns forbids it here; a seccomp profile of the \
         container around this process does."
            .to_owned()
    } else {
        format!("Allow it with {}.", forbidding.join(" and "))
    }
}

fn read_sysctl(name: &str) -> io::Result<String> {
    fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_a_fix() {
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
