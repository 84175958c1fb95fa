//! The pages: `/metrics`, `/livez` and `/readyz`.
//!
//! In: paths. Out: answers from a [`State`]; [`metrics::http`] serves them, and bounds what that takes.

use std::time::Instant;

use metrics::http::{Answer, Pages};

use crate::figures::CATALOG;
use crate::status::State;

impl Pages for State {
    const PATHS: &'static str = "/metrics, /livez and /readyz";

    async fn answer(&self, path: &str) -> Option<Answer> {
        page(path, self)
    }

    fn count_evicted(&self) {
        State::count_evicted(self);
    }
}

fn page(path: &str, state: &State) -> Option<Answer> {
    Some(match path {
        "/metrics" => Answer::metrics(CATALOG.text(&state.status())),
        "/readyz" if !state.has_begun() => {
            Answer::health(Some("not all threads have begun\n".to_owned()))
        }
        "/livez" | "/readyz" => Answer::health(stuck(state)),
        _ => return None,
    })
}

fn stuck(state: &State) -> Option<String> {
    let (thread, idle) = state.stuck(Instant::now())?;
    Some(format!(
        "thread {thread} is stuck for {} s\n",
        idle.as_secs()
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::keys::FileState;
    use crate::worker::{Published, Shared};

    #[test]
    fn live_is_who_publishes_and_ready_is_who_has_begun_too() {
        let thread = Shared::default();
        let keys = FileState {
            keys: 1,
            read_at: SystemTime::now(),
            failures: 9,
        };
        let begun = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
        let state = |begun| State::new(vec![Arc::clone(&thread)], 1, keys, begun);
        let codes = |state: &State| {
            ["/livez", "/readyz"].map(|path| page(path, state).unwrap().status.as_u16())
        };
        assert_eq!(codes(&state(Instant::now())), [200, 503]);
        assert_eq!(codes(&state(begun)), [503, 503], "it does not begin");
        let publish = |at| {
            *thread.lock().unwrap() = Published {
                at: Some(at),
                ..Published::default()
            };
        };
        publish(Instant::now());
        assert_eq!(
            codes(&state(begun)),
            [200, 200],
            "a file of keys that cannot be read matters not"
        );
        publish(begun);
        assert_eq!(codes(&state(begun)), [503, 503], "it is stuck");
    }
}
