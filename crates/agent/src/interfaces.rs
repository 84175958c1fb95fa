//! The captured interfaces, as the worker reports them.
//!
//! In: the names in `INTERFACE`, and the worker's changes. Out: log lines, at each change and each minute for an
//! interface that is missing; and the state of each interface.

use std::time::Instant;

use capture::InterfaceChange;
use settings::Foreign;
use wire::InterfaceName;

use crate::reminders::REMIND_EVERY;

/// The state of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InterfaceState {
    /// It was not looked up yet.
    Unknown,
    Missing,
    /// It exists, and frames of its type are not mirrored.
    Unsupported,
    Down,
    /// Its frames are captured.
    Captured,
}

impl InterfaceState {
    /// The name in metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Missing => "missing",
            Self::Unsupported => "unsupported",
            Self::Down => "down",
            Self::Captured => "captured",
        }
    }

    /// Why nothing is captured.
    pub(crate) const fn problem(self) -> Option<&'static str> {
        match self {
            Self::Unknown => Some("has not been looked up yet"),
            Self::Missing => Some("does not exist"),
            Self::Unsupported => Some("is of a type that is not mirrored"),
            Self::Down => Some("is down"),
            Self::Captured => None,
        }
    }

    /// The state after a change.
    const fn after(change: &InterfaceChange) -> Self {
        match change {
            InterfaceChange::Missing => Self::Missing,
            InterfaceChange::Unsupported { .. } => Self::Unsupported,
            InterfaceChange::Down
            | InterfaceChange::Bound { up: false, .. }
            | InterfaceChange::Replaced { up: false, .. } => Self::Down,
            InterfaceChange::Bound { up: true, .. }
            | InterfaceChange::Replaced { up: true, .. }
            | InterfaceChange::Renamed { .. }
            | InterfaceChange::Up => Self::Captured,
        }
    }
}

/// All interfaces, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct Interfaces(Vec<Interface>);

#[derive(Debug)]
struct Interface {
    name: InterfaceName,
    state: InterfaceState,
    /// When this was last logged.
    logged: Instant,
}

impl Interfaces {
    pub(crate) fn new<'n>(names: impl Iterator<Item = &'n InterfaceName>, now: Instant) -> Self {
        let interface = |name: &InterfaceName| Interface {
            name: name.clone(),
            state: InterfaceState::Unknown,
            logged: now,
        };
        Self(names.map(interface).collect())
    }

    /// Names and states.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&InterfaceName, InterfaceState)> {
        self.0
            .iter()
            .map(|interface| (&interface.name, interface.state))
    }

    /// Logs a change.
    pub(crate) fn changed(&mut self, name: &InterfaceName, change: &InterfaceChange, now: Instant) {
        // Another process can choose an interface's name.
        let text = change.to_string();
        let text = Foreign(&text);
        match change {
            InterfaceChange::Bound { .. }
            | InterfaceChange::Replaced { .. }
            | InterfaceChange::Up => {
                tracing::info!(interface = %name, "{text}");
            }
            _ => tracing::warn!(interface = %name, "{text}"),
        }
        for interface in self.0.iter_mut().filter(|one| one.name == *name) {
            // A device that is renamed while it is down stays down.
            let is_renamed = matches!(change, InterfaceChange::Renamed { .. });
            if !(is_renamed && interface.state == InterfaceState::Down) {
                interface.state = InterfaceState::after(change);
            }
            interface.logged = now;
        }
    }

    /// Logs again which interfaces are missing, each once a minute.
    pub(crate) fn remind(&mut self, now: Instant) {
        for interface in self.missing_mut() {
            if now.duration_since(interface.logged) >= REMIND_EVERY {
                interface.logged = now;
                tracing::warn!(
                    interface = %interface.name,
                    "the interface still does not exist; podspan waits for it"
                );
            }
        }
    }

    /// When [`Interfaces::remind`] has something to log.
    pub(crate) fn next_reminder(&self) -> Option<Instant> {
        let missing = self.0.iter().filter(|one| one.is_missing());
        missing.map(|one| one.logged + REMIND_EVERY).min()
    }

    fn missing_mut(&mut self) -> impl Iterator<Item = &mut Interface> {
        self.0.iter_mut().filter(|one| one.is_missing())
    }
}

impl Interface {
    fn is_missing(&self) -> bool {
        self.state == InterfaceState::Missing
    }
}

#[cfg(test)]
mod tests {
    use wire::Link;

    use super::*;

    #[test]
    fn the_state_is_that_of_the_last_change_and_missing_ones_are_remembered() {
        let names: [InterfaceName; 2] = ["eth0", "net1"].map(|name| name.parse().unwrap());
        let start = Instant::now();
        let mut interfaces = Interfaces::new(names.iter(), start);
        let up = InterfaceChange::Bound {
            index: 2,
            link: Link::Ethernet,
            up: true,
        };
        let renamed = InterfaceChange::Renamed { to: "x".into() };
        for (change, expected) in [
            (InterfaceChange::Missing, InterfaceState::Missing),
            (up, InterfaceState::Captured),
            (InterfaceChange::Down, InterfaceState::Down),
            (renamed.clone(), InterfaceState::Down),
            (InterfaceChange::Up, InterfaceState::Captured),
            (renamed, InterfaceState::Captured),
            (
                InterfaceChange::Unsupported { hardware: 1 },
                InterfaceState::Unsupported,
            ),
        ] {
            interfaces.changed(&names[0], &change, start);
            let states: Vec<_> = interfaces.states().map(|(_, state)| state).collect();
            assert_eq!(states, [expected, InterfaceState::Unknown], "{change:?}");
            let reminder = (expected == InterfaceState::Missing).then(|| start + REMIND_EVERY);
            assert_eq!(interfaces.next_reminder(), reminder);
        }
        interfaces.changed(&names[1], &InterfaceChange::Missing, start);
        let later = start + REMIND_EVERY;
        interfaces.remind(start + REMIND_EVERY / 2);
        assert_eq!(interfaces.next_reminder(), Some(later));
        interfaces.remind(later);
        assert_eq!(interfaces.next_reminder(), Some(later + REMIND_EVERY));
    }
}
