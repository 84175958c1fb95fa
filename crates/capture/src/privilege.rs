//! Raising `NET_RAW`, and dropping every privilege when the sockets are open.
//!
//! In the image the programs have the file capability `cap_net_raw+p`: permitted, not effective.
//! [`raise_net_raw`] makes it effective. With `+ep` the kernel would do that itself, but it would also refuse
//! to execute the binary where the container may not have `NET_RAW` (`bprm_caps_from_vfs_caps` in
//! `security/commoncap.c`). podspan would then never run: it could not report what is missing, and with
//! `ON_FAILURE=idle` the pod's application would not start.
//!
//! `NET_RAW` is needed only to open sockets: the packet socket with its ring, and podspan's marked UDP
//! sockets. After that, [`drop_all`] drops every capability in every set and forbids `execve` to gain any. So
//! an attacker who exploits a flaw in the parsers gets no privilege. It also protects the process's memory,
//! which contains the frames: no core dump is written, and no process of the same user may read or trace it
//! (`PR_SET_DUMPABLE`).
//!
//! Capabilities belong to a thread, not to the process (capabilities(7)), and a new thread inherits those
//! of its parent. So [`drop_all`] must be called before any other thread exists, including those of the
//! runtime and the worker: a thread that started earlier would keep its capabilities.
//!
//! Invariant: `Ok` means that every value was read back and is as required. A capability that could not be
//! dropped is an error, with one exception: only `SETPCAP` allows dropping from the bounding set, and
//! podspan should not have it. With an empty permitted set and `no_new_privs`, the bounding set has no
//! effect.

use caps::errors::CapsError;
use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sys::prctl;
use thiserror::Error;

/// The privileges could not be dropped. The process must not continue with them.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// `PR_SET_NO_NEW_PRIVS` was refused.
    #[error("cannot set no_new_privs: {0}; allow prctl in the container's seccomp profile")]
    NoNewPrivs(#[source] Errno),
    /// A set could not be emptied.
    #[error(
        "cannot drop the {set:?} capabilities: {source}; allow capset and prctl in the \
             container's seccomp profile"
    )]
    Drop {
        /// Which set.
        set: CapSet,
        /// What the system said.
        source: CapsError,
    },
    /// A set could not be read back.
    #[error(
        "cannot read the {set:?} capabilities: {source}; allow capget and prctl in the \
             container's seccomp profile"
    )]
    Read {
        /// Which set.
        set: CapSet,
        /// What the system said.
        source: CapsError,
    },
    /// A set was emptied without an error and is not empty.
    #[error(
        "{remaining:?} remained in the {set:?} capabilities although they were dropped; check the \
             node's security module"
    )]
    Remained {
        /// Which set.
        set: CapSet,
        /// The capabilities in it, in the order of the kernel's numbers.
        remaining: Vec<Capability>,
    },
    /// `no_new_privs` was set without an error and is not set.
    #[error(
        "no_new_privs is not set although the system accepted it; check the node's security module"
    )]
    NoNewPrivsUnset,
    /// `PR_SET_DUMPABLE` or `PR_GET_DUMPABLE` was refused.
    #[error("cannot forbid memory dumps: {0}; allow prctl in the container's seccomp profile")]
    Dumpable(#[source] Errno),
    /// `PR_SET_DUMPABLE` was set to 0 without an error and is not 0.
    #[error(
        "memory dumps are not forbidden although the system accepted it; check the node's security module"
    )]
    StillDumpable,
}

/// The state of the bounding set; all other sets are empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoundingSet {
    /// Empty too.
    Empty,
    /// Unchanged, because dropping from it needs `SETPCAP`. It has no effect.
    Kept,
}

/// Makes `NET_RAW` effective in the calling thread if it is permitted. Without it nothing changes: opening
/// the packet socket then fails, and that error names the capability.
pub fn raise_net_raw() {
    // The kernel refuses if it is not permitted. That is seen when the packet socket is opened.
    let _ = caps::raise(None, CapSet::Effective, Capability::CAP_NET_RAW);
}

/// Empties every capability set of the calling thread, sets `no_new_privs`, forbids memory dumps, and
/// reads all of it back.
///
/// Call it when all sockets are open and before the first thread is started.
///
/// # Errors
/// When a privilege remains, or when this cannot be checked.
pub fn drop_all() -> Result<BoundingSet, PrivilegeError> {
    prctl::set_no_new_privs().map_err(PrivilegeError::NoNewPrivs)?;
    let bounding = drop_bounding()?;
    // Ambient first: the kernel would also shrink it together with permitted and inheritable, but then
    // an error would name the wrong set. Effective comes before permitted, its superset.
    let sets = [
        CapSet::Ambient,
        CapSet::Effective,
        CapSet::Permitted,
        CapSet::Inheritable,
    ];
    for set in sets {
        caps::clear(None, set).map_err(|source| PrivilegeError::Drop { set, source })?;
    }
    for set in sets {
        verify_empty(set)?;
    }
    if bounding == BoundingSet::Empty {
        verify_empty(CapSet::Bounding)?;
    }
    match prctl::get_no_new_privs() {
        Ok(true) => {}
        Ok(false) => return Err(PrivilegeError::NoNewPrivsUnset),
        Err(errno) => return Err(PrivilegeError::NoNewPrivs(errno)),
    }
    forbid_dumps()?;
    Ok(bounding)
}

fn forbid_dumps() -> Result<(), PrivilegeError> {
    prctl::set_dumpable(false).map_err(PrivilegeError::Dumpable)?;
    match prctl::get_dumpable() {
        Ok(false) => Ok(()),
        Ok(true) => Err(PrivilegeError::StillDumpable),
        Err(errno) => Err(PrivilegeError::Dumpable(errno)),
    }
}

/// Must come before the other sets, because it needs a capability from them.
fn drop_bounding() -> Result<BoundingSet, PrivilegeError> {
    let effective = CapSet::Effective;
    let has_setpcap =
        caps::has_cap(None, effective, Capability::CAP_SETPCAP).map_err(|source| {
            PrivilegeError::Read {
                set: effective,
                source,
            }
        })?;
    if !has_setpcap {
        return Ok(BoundingSet::Kept);
    }
    let set = CapSet::Bounding;
    caps::clear(None, set).map_err(|source| PrivilegeError::Drop { set, source })?;
    Ok(BoundingSet::Empty)
}

fn verify_empty(set: CapSet) -> Result<(), PrivilegeError> {
    let found = caps::read(None, set).map_err(|source| PrivilegeError::Read { set, source })?;
    if found.is_empty() {
        return Ok(());
    }
    let mut remaining: Vec<_> = found.into_iter().collect();
    remaining.sort_by_key(Capability::index);
    Err(PrivilegeError::Remained { set, remaining })
}

// Miri has no capabilities.
#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// The calling thread's state as the kernel prints it, which the `caps` crate does not read.
    fn status() -> HashMap<String, String> {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let pairs = status.lines().filter_map(|line| line.split_once(':'));
        pairs
            .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
            .collect()
    }

    #[test]
    fn a_permitted_net_raw_becomes_effective_and_no_other_one() {
        let test = std::thread::spawn(|| {
            caps::clear(None, CapSet::Effective).unwrap();
            let permitted = caps::read(None, CapSet::Permitted).unwrap();
            raise_net_raw();
            let effective = caps::read(None, CapSet::Effective).unwrap();
            // As an ordinary user nothing is permitted, and nothing becomes effective.
            let raised = permitted
                .contains(&Capability::CAP_NET_RAW)
                .then_some(Capability::CAP_NET_RAW);
            assert_eq!(effective, raised.into_iter().collect());
        });
        test.join().unwrap();
    }

    #[test]
    fn nothing_remains_after_the_drop() {
        // A separate thread: capabilities are per thread, and other tests keep theirs.
        let test = std::thread::spawn(|| {
            let before = status();
            let bounding = drop_all().unwrap();
            let after = status();
            for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
                assert_eq!(after[set], "0000000000000000", "{set}");
            }
            assert_eq!(after["NoNewPrivs"], "1");
            match bounding {
                BoundingSet::Empty => assert_eq!(after["CapBnd"], "0000000000000000"),
                BoundingSet::Kept => assert_eq!(after["CapBnd"], before["CapBnd"]),
            }
            assert_eq!(prctl::get_dumpable(), Ok(false));
        });
        test.join().unwrap();
    }

    #[test]
    fn a_second_drop_is_no_error_and_keeps_the_bounding_set() {
        let test = std::thread::spawn(|| {
            caps::clear(None, CapSet::Effective).unwrap();
            let before = status();
            assert_eq!(drop_all().unwrap(), BoundingSet::Kept);
            assert_eq!(drop_all().unwrap(), BoundingSet::Kept);
            assert_eq!(status()["CapBnd"], before["CapBnd"]);
        });
        test.join().unwrap();
    }

    #[test]
    fn threads_started_later_have_no_capabilities() {
        let test = std::thread::spawn(|| {
            drop_all().unwrap();
            std::thread::spawn(status).join().unwrap()
        });
        let status = test.join().unwrap();
        assert_eq!(status["CapPrm"], "0000000000000000");
        assert_eq!(status["NoNewPrivs"], "1");
    }

    #[test]
    fn what_remains_is_an_error_that_names_it() {
        let remaining = vec![Capability::CAP_NET_RAW];
        let error = PrivilegeError::Remained {
            set: CapSet::Permitted,
            remaining,
        };
        assert!(error.to_string().contains("CAP_NET_RAW"), "{error}");
        assert!(error.to_string().contains("Permitted"), "{error}");
    }
}
