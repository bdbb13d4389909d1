//! Which era an upstream speaks: asked once, remembered, shared by all who want to know at the same time.

use crate::peer::CallError;
use futures::future::{BoxFuture, FutureExt, Shared};
use parking_lot::Mutex;
use std::sync::Arc;

/// What is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// It must be opened with `initialize`.
    Legacy,
    /// It is stateless; with its DiscoverResult, for the owner.
    Modern(Arc<str>),
}

type Probe = Shared<BoxFuture<'static, Result<Known, CallError>>>;

/// The memory.
#[derive(Default)]
pub(crate) struct Eras(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Unknown,
    Asking(Probe),
    Known(Known),
}

impl Eras {
    /// What is known, or what `probe` finds out; only one probe runs at a time. A failed one is not remembered.
    pub(crate) async fn get<F>(&self, probe: impl FnOnce() -> F) -> Result<Known, CallError>
    where
        F: Future<Output = Result<Known, CallError>> + Send + 'static,
    {
        let asking = {
            let mut state = self.0.lock();
            match &*state {
                State::Known(known) => return Ok(known.clone()),
                State::Asking(asking) => asking.clone(),
                State::Unknown => {
                    let asking = probe().boxed().shared();
                    *state = State::Asking(asking.clone());
                    asking
                }
            }
        };
        let found = asking.clone().await;
        let mut state = self.0.lock();
        if matches!(&*state, State::Asking(current) if current.ptr_eq(&asking)) {
            *state = found.clone().map_or(State::Unknown, State::Known);
        }
        found
    }

    /// Asks again next time.
    pub(crate) fn forget(&self) {
        *self.0.lock() = State::Unknown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn one_probe_serves_all_and_failures_are_forgotten() {
        let eras = Eras::default();
        let asked = Arc::new(AtomicUsize::new(0));
        let probe = |outcome: Result<Known, CallError>| {
            let asked = asked.clone();
            move || async move {
                tokio::task::yield_now().await;
                asked.fetch_add(1, Ordering::Relaxed);
                outcome
            }
        };
        let (one, other) =
            tokio::join!(eras.get(probe(Err(CallError::Unreachable))), eras.get(probe(Err(CallError::Unreachable))));
        assert_eq!((one, other), (Err(CallError::Unreachable), Err(CallError::Unreachable)));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        for expected in [2, 2] {
            assert_eq!(eras.get(probe(Ok(Known::Legacy))).await, Ok(Known::Legacy));
            assert_eq!(asked.load(Ordering::Relaxed), expected);
        }
        eras.forget();
        assert_eq!(eras.get(probe(Ok(Known::Modern("{}".into())))).await, Ok(Known::Modern("{}".into())));
    }
}
