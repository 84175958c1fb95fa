//! Interfaces that are created, deleted, created again and renamed.

use std::num::NonZeroU32;
use std::os::fd::AsFd;

use caps::{CapSet, Capability};
use capture::{
    BLOCK_LEN, BLOCK_LEN_MIN, InterfaceChange, NetworkChanges, OpenError, Ring, RingConfig,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use testbed::{Link, Namespace, veth};
use wire::Direction;

use crate::support::{
    CapturedFrame, HERE, Pair, THERE, Test, bound, drain, finish, numbered, numbers, receiver,
    sender, wait,
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("an_interface_that_is_missing_at_first_is_found", missing),
        ("an_interface_goes_down_and_comes_up", down_and_up),
        (
            "an_interface_that_is_deleted_and_created_again_is_bound_again",
            made_again,
        ),
        ("a_renamed_interface_is_still_captured", renamed),
        ("the_kernel_reports_changes_of_the_network", changes),
        ("rebinding_needs_no_capability", without_capabilities),
        ("without_net_raw_the_error_names_it", not_permitted),
        ("an_invalid_size_is_rejected", bad_size),
    ]
}

/// Sends a numbered datagram from the other namespace and waits for it in the ring.
fn arrives(pair: &Pair, ring: &mut Ring, number: u32) -> Vec<CapturedFrame> {
    sender(&pair.there, HERE, false)
        .send(&numbered(number, 64))
        .unwrap();
    let mut seen = wait(ring);
    while !numbers(&seen).contains(&number) {
        seen.extend(wait(ring));
    }
    assert!(
        seen.iter()
            .any(|frame| frame.direction == Direction::Incoming)
    );
    seen
}

/// What poll reports without waiting.
fn state(ring: &Ring) -> PollFlags {
    let mut fds = [PollFd::new(ring.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap();
    fds[0].revents().unwrap()
}

fn is_bound(change: Option<&InterfaceChange>, link: &Link) -> bool {
    matches!(change, Some(InterfaceChange::Bound { index, up: true, .. }) if *index == link.index())
}

/// What changes, and the change.
type Step<'s> = (&'s str, Box<dyn Fn() + 's>);

/// Without any capability, and with more changes than the kernel's buffer holds.
fn changes() {
    let pair = Pair::new();
    let (here, there) = (&pair.eth0, &pair.there);
    let subscribe = || {
        caps::clear(None, CapSet::Effective).unwrap();
        NetworkChanges::subscribe().unwrap()
    };
    let changes = pair.here.run(subscribe);
    let wakes = || {
        let mut fds = [PollFd::new(changes.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    };
    // The kernel may still report that the links are up.
    while changes.clear() {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    there.set_forwarding(true).unwrap();
    assert!(
        !wakes() && !changes.clear(),
        "a change in another namespace"
    );
    let address: std::net::IpAddr = "10.5.5.1".parse().unwrap();
    let gateway = "10.5.5.2".parse().unwrap();
    let route = ("10.6.0.0".parse().unwrap(), 16);
    let mtus = (1300..1399).cycle().take(2000);
    let steps: [Step<'_>; 5] = [
        (
            "an address",
            Box::new(|| here.add_address(address, 24).unwrap()),
        ),
        (
            "a route",
            Box::new(|| pair.here.add_route(route, gateway).unwrap()),
        ),
        ("an MTU", Box::new(|| here.set_mtu(1400).unwrap())),
        ("a link that goes down", Box::new(|| here.down().unwrap())),
        (
            "more than the kernel's buffer holds",
            Box::new(move || {
                mtus.clone().for_each(|mtu| here.set_mtu(mtu).unwrap());
            }),
        ),
    ];
    for (what, change) in steps {
        change();
        assert!(wakes() && changes.clear(), "{what}");
        while changes.clear() {}
        assert!(!wakes(), "{what}: not cleared");
    }
}

fn missing() {
    let pair = Pair::new();
    let _receiver = receiver(&pair.here);
    let mut ring = pair.ring("eth1", 2);
    assert_eq!(ring.refresh().unwrap(), Some(InterfaceChange::Missing));
    assert_eq!(ring.refresh().unwrap(), None);
    let (eth1, _far) = veth((&pair.here, "eth1"), (&pair.there, "eth1")).unwrap();
    let change = ring.refresh().unwrap();
    assert!(
        matches!(change, Some(InterfaceChange::Bound { up: false, .. })),
        "{change:?}"
    );
    assert_eq!(state(&ring), PollFlags::empty(), "ENETDOWN was not cleared");
    eth1.up().unwrap();
    assert_eq!(ring.refresh().unwrap(), Some(InterfaceChange::Up));
    finish(ring, Vec::new());
}

fn down_and_up() {
    let pair = Pair::new();
    let _receiver = receiver(&pair.here);
    let mut ring = bound(&pair.here, "eth0", 2);
    let mut seen = arrives(&pair, &mut ring, 1);
    pair.eth0.down().unwrap();
    assert!(state(&ring).contains(PollFlags::POLLERR));
    assert_eq!(ring.refresh().unwrap(), Some(InterfaceChange::Down));
    assert!(
        !state(&ring).contains(PollFlags::POLLERR),
        "the error stays"
    );
    assert_eq!(ring.refresh().unwrap(), None);
    pair.eth0.up().unwrap();
    // The kernel delivers again without a call.
    seen.extend(arrives(&pair, &mut ring, 2));
    assert_eq!(ring.refresh().unwrap(), Some(InterfaceChange::Up));
    let (seen, _) = finish(ring, seen);
    assert_eq!(numbers(&seen), [1, 2]);
}

fn made_again() {
    let mut pair = Pair::new();
    let (_here, _there) = (receiver(&pair.here), receiver(&pair.there));
    let mut ring = bound(&pair.here, "eth0", 2);
    let mut seen = arrives(&pair, &mut ring, 1);
    // Observed while it does not exist.
    pair.eth0.clone().delete().unwrap();
    assert!(state(&ring).contains(PollFlags::POLLERR));
    assert_eq!(ring.refresh().unwrap(), Some(InterfaceChange::Missing));
    pair.make_again();
    assert!(is_bound(ring.refresh().unwrap().as_ref(), &pair.eth0));
    seen.extend(arrives(&pair, &mut ring, 2));
    // Not observed while it does not exist; marked datagrams are sent before and after it is bound.
    pair.eth0.clone().delete().unwrap();
    pair.make_again();
    let own = sender(&pair.here, THERE, true);
    own.send(&numbered(1000, 64)).unwrap();
    let change = ring.refresh().unwrap();
    own.send(&numbered(1001, 64)).unwrap();
    let index = pair.eth0.index();
    assert!(
        matches!(change, Some(InterfaceChange::Replaced { index: i, .. }) if i == index),
        "{change:?}"
    );
    seen.extend(arrives(&pair, &mut ring, 3));
    let (seen, _) = finish(ring, seen);
    assert_eq!(numbers(&seen), [1, 2, 3]);
}

fn renamed() {
    let mut pair = Pair::new();
    let _receiver = receiver(&pair.here);
    let mut ring = bound(&pair.here, "eth0", 2);
    let mut seen = arrives(&pair, &mut ring, 1);
    pair.eth0.rename("old0").unwrap();
    let to = |to: &str| Some(InterfaceChange::Renamed { to: to.to_owned() });
    assert_eq!(ring.refresh().unwrap(), to("old0"));
    assert_eq!(ring.refresh().unwrap(), None);
    seen.extend(arrives(&pair, &mut ring, 2));
    // Another device gets the name: the ring must capture that one.
    let (eth0, _far) = veth((&pair.here, "eth0"), (&pair.there, "eth1")).unwrap();
    let change = ring.refresh().unwrap();
    assert!(
        matches!(change, Some(InterfaceChange::Replaced { index, up: false, .. }) if index == eth0.index()),
        "{change:?}"
    );
    sender(&pair.there, HERE, false)
        .send(&numbered(3, 64))
        .unwrap();
    eth0.delete().unwrap();
    assert_eq!(ring.refresh().unwrap(), Some(InterfaceChange::Missing));
    pair.eth0.rename("eth0").unwrap();
    assert!(is_bound(ring.refresh().unwrap().as_ref(), &pair.eth0));
    seen.extend(arrives(&pair, &mut ring, 4));
    let (seen, _) = finish(ring, seen);
    assert_eq!(numbers(&seen), [1, 2, 4]);
}

/// Drops the capabilities of this thread, which only this test uses.
fn drop_capabilities() {
    caps::clear(None, CapSet::Effective).unwrap();
    caps::clear(None, CapSet::Permitted).unwrap();
    assert!(!caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_RAW).unwrap());
}

fn without_capabilities() {
    let mut pair = Pair::new();
    let _receiver = receiver(&pair.here);
    let mut ring = bound(&pair.here, "eth0", 2);
    pair.eth0.clone().delete().unwrap();
    assert_eq!(ring.refresh().unwrap(), Some(InterfaceChange::Missing));
    pair.make_again();
    let change = std::thread::scope(|scope| {
        let refresh = || {
            drop_capabilities();
            ring.refresh()
        };
        scope.spawn(refresh).join().unwrap().unwrap()
    });
    assert!(is_bound(change.as_ref(), &pair.eth0));
    let seen = arrives(&pair, &mut ring, 1);
    // Stopping needs no capability either.
    let mut ring = std::thread::scope(|scope| {
        let stop = move || {
            drop_capabilities();
            ring.stop().map(|()| ring)
        };
        scope.spawn(stop).join().unwrap().unwrap()
    });
    assert!(ring.refresh().unwrap().is_none());
    let (seen, _) = drain(ring, seen);
    assert_eq!(numbers(&seen), [1]);
}

fn config(bytes: usize) -> RingConfig {
    RingConfig::new(bytes, NonZeroU32::MIN)
}

fn not_permitted() {
    let namespace = Namespace::new().unwrap();
    let error = namespace.run(|| {
        drop_capabilities();
        Ring::open("lo".parse().unwrap(), &config(2 * BLOCK_LEN)).unwrap_err()
    });
    assert!(matches!(error, OpenError::NotPermitted { .. }), "{error:?}");
    assert!(error.to_string().contains("NET_RAW"));
}

fn bad_size() {
    let sizes = [0, 1, BLOCK_LEN, 2 * BLOCK_LEN + 4096].map(config);
    let blocks = [0, 3 << 20, BLOCK_LEN_MIN / 2].map(|block_len| RingConfig {
        block_len,
        ..config(6 * BLOCK_LEN)
    });
    for config in sizes.into_iter().chain(blocks) {
        let error = Ring::open("lo".parse().unwrap(), &config).unwrap_err();
        assert!(error.to_string().starts_with("RING_SIZE is"), "{error}");
    }
}
