//! Which frames are mirrored: by `FILTER`, and by the annotations of podspan's own pod.
//!
//! In: the setting, the annotations, and the last state. Out: the next state with what the rings attach, and
//! what to log. No I/O: `ring_filters` attaches and logs.
//!
//! The annotation `podspan.dev/filter` is used in the place of `FILTER`, also if it is empty, which accepts
//! every frame. `podspan.dev/mirror` switches everything off or on.
//!
//! Invariants: a wrong annotation changes nothing and is reported once, when its text changes. Without
//! annotations the state is that of `FILTER`.

use std::fmt;
use std::sync::Arc;

use discovery::{FILTER_ANNOTATION, MAX_ANNOTATION, MIRROR_ANNOTATION, OwnAnnotations};
use filter::{Filter, MAX_TEXT};
use settings::Foreign;

// A text that discovery has shortened is too long for a filter, so no part of a filter is compiled.
const _: () = assert!(MAX_ANNOTATION - 3 > MAX_TEXT);

/// What the rings attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mirrored {
    /// Every frame is rejected.
    Nothing,
    /// The frames that the filter accepts; `None`: all.
    Accepted(Option<Arc<Filter>>),
}

/// What has changed, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The annotation's filter is used.
    Annotation(Arc<Filter>),
    /// The annotation was removed, and this is `FILTER`.
    Setting(Option<Arc<Filter>>),
    /// The annotation is no filter.
    WrongFilter(WrongFilter),
    Off,
    On,
    /// The annotation is neither `on` nor `off`.
    WrongMirror(String),
}

/// Why an annotation is no filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WrongFilter {
    TooLong,
    Error(Box<filter::Error>),
}

impl fmt::Display for WrongFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(
                f,
                "it is too long; expected: at most {MAX_TEXT} bytes, with nets in the place of hosts; for \
                 example: net 10.0.0.0/8 and not portrange 8000-8100"
            ),
            Self::Error(error) => write!(f, "{error}"),
        }
    }
}

impl Change {
    /// Whether an operator must act.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(self, Self::WrongFilter(_) | Self::WrongMirror(_))
    }

    /// Whether mirroring is switched off or on.
    pub(crate) const fn is_switch(&self) -> bool {
        matches!(self, Self::Off | Self::On)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Annotation(filter) => write!(
                f,
                "the filter is now that of the annotation {FILTER_ANNOTATION}: {}",
                Shown(Some(filter))
            ),
            Self::Setting(filter) => write!(
                f,
                "the annotation {FILTER_ANNOTATION} was removed, so FILTER is used again: {}",
                Shown(filter.as_deref())
            ),
            Self::WrongFilter(wrong) => write!(
                f,
                "the annotation {FILTER_ANNOTATION} is not used, and the last valid filter stays: {wrong}"
            ),
            Self::Off => write!(
                f,
                "the annotation {MIRROR_ANNOTATION} switches mirroring off: the kernel rejects every frame"
            ),
            Self::On => write!(f, "mirroring is switched on again ({MIRROR_ANNOTATION})"),
            Self::WrongMirror(text) => write!(
                f,
                "the annotation {MIRROR_ANNOTATION} is {:?}, which is not used, and the last valid value \
                 stays; expected: \"on\" or \"off\"; for example: {MIRROR_ANNOTATION}: \"off\"",
                Foreign(text)
            ),
        }
    }
}

/// The start of a filter's text.
struct Shown<'f>(Option<&'f Filter>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.map(|filter| filter.text().trim()) {
            None | Some("") => f.write_str("every frame"),
            Some(text) => write!(f, "{:?}", Foreign(text)),
        }
    }
}

/// Where the filter in use comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum FilterOrigin {
    /// There is none: every frame is accepted.
    #[default]
    None,
    /// `FILTER`.
    Setting,
    Annotation,
}

impl FilterOrigin {
    /// The name in metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Setting => "setting",
            Self::Annotation => "annotation",
        }
    }
}

/// The filter in force.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct FilterStatus {
    pub(crate) origin: FilterOrigin,
    /// Its text, empty without one.
    pub(crate) text: String,
    /// Whether mirroring is switched off.
    pub(crate) is_off: bool,
}

/// The filter in use, and what it was decided from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilterChoice {
    /// `FILTER`.
    setting: Option<Arc<Filter>>,
    /// The last valid annotation, in the place of the setting.
    annotation: Option<Arc<Filter>>,
    is_off: bool,
    /// The annotations that this was decided from, with the wrong ones.
    seen: OwnAnnotations,
}

impl FilterChoice {
    /// The choice without annotations.
    pub(crate) fn new(setting: Option<Filter>) -> Self {
        Self {
            setting: setting.map(Arc::new),
            annotation: None,
            is_off: false,
            seen: OwnAnnotations::default(),
        }
    }

    /// What the rings attach.
    pub(crate) fn mirrored(&self) -> Mirrored {
        if self.is_off {
            return Mirrored::Nothing;
        }
        Mirrored::Accepted(self.annotation.as_ref().or(self.setting.as_ref()).cloned())
    }

    /// What is in force if the rings have this choice.
    pub(crate) fn status(&self) -> FilterStatus {
        let (origin, filter) = match (&self.annotation, &self.setting) {
            (Some(filter), _) => (FilterOrigin::Annotation, Some(filter)),
            (None, Some(filter)) => (FilterOrigin::Setting, Some(filter)),
            (None, None) => (FilterOrigin::None, None),
        };
        FilterStatus {
            origin,
            text: filter.map_or_else(String::new, |filter| filter.text().to_owned()),
            is_off: self.is_off,
        }
    }

    /// The choice for these annotations, and what has changed.
    pub(crate) fn next(&self, annotations: OwnAnnotations) -> (Self, Vec<Change>) {
        let mut next = self.clone();
        let filter = (annotations.filter != self.seen.filter)
            .then(|| next.set_filter(annotations.filter.as_deref()));
        let is_new = annotations.mirror != self.seen.mirror;
        let mirror = next.set_mirror(annotations.mirror.as_deref(), is_new);
        next.seen = annotations;
        (next, filter.into_iter().chain(mirror).collect())
    }

    /// The kernel refused this choice's filter: it has that of another choice until the annotation changes.
    pub(crate) fn use_filter_of(&mut self, accepted: &Self) {
        self.annotation.clone_from(&accepted.annotation);
    }

    fn set_filter(&mut self, text: Option<&str>) -> Change {
        let Some(text) = text else {
            self.annotation = None;
            return Change::Setting(self.setting.clone());
        };
        if text.len() > MAX_TEXT {
            return Change::WrongFilter(WrongFilter::TooLong);
        }
        match Filter::new(text) {
            Ok(filter) => {
                let filter = Arc::new(filter);
                self.annotation = Some(Arc::clone(&filter));
                Change::Annotation(filter)
            }
            Err(error) => Change::WrongFilter(WrongFilter::Error(Box::new(error))),
        }
    }

    fn set_mirror(&mut self, text: Option<&str>, is_new: bool) -> Option<Change> {
        let word = text.map_or("on", str::trim);
        let is_off = word.eq_ignore_ascii_case("off");
        if !is_off && !word.eq_ignore_ascii_case("on") {
            return is_new.then(|| Change::WrongMirror(word.to_owned()));
        }
        let was_off = std::mem::replace(&mut self.is_off, is_off);
        match (was_off, is_off) {
            (false, true) => Some(Change::Off),
            (true, false) => Some(Change::On),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "filter_choice_tests.rs"]
mod tests;
