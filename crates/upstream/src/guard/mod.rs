//! Keeps one upstream from hurting the others: a bulkhead (so many calls at a time, further ones are refused at once) and
//! a breaker. A call's [`Permit`] is held until its exchange has ended, streams included.

mod breaker;

use crate::backoff;
use crate::peer::{CallError, Exchange};
use breaker::{Breaker, Pass};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// The bulkhead and breaker of one upstream.
#[derive(Debug)]
pub(crate) struct Guard {
    calls_max: usize,
    in_flight: AtomicUsize,
    breaker: Mutex<Breaker>,
    /// The last failure was a connection's: who is refused then may try again soon, a restart takes no longer.
    unreachable: AtomicBool,
    closed: AtomicBool,
}

impl Guard {
    pub(crate) fn new(calls_max: usize) -> Arc<Self> {
        Arc::new(Self {
            calls_max,
            in_flight: AtomicUsize::new(0),
            breaker: Mutex::new(Breaker::new()),
            unreachable: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        })
    }

    /// Calls that hold a permit now.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// From now on every call is refused with [`CallError::Closed`].
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Makes one call under the guard. It is begun here and not handed over: it is large, and would be moved twice.
    pub(crate) async fn call<F>(self: &Arc<Self>, call: impl FnOnce() -> F) -> Result<Exchange, CallError>
    where
        F: Future<Output = Result<Exchange, CallError>>,
    {
        let mut permit = self.admit()?;
        let mut outcome = call().await;
        permit.settle(outcome.as_ref().err());
        if let Ok(Exchange::Stream(messages)) = &mut outcome {
            messages.hold(permit);
        }
        outcome
    }

    /// Takes a place, or says why there is none.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Permit, CallError> {
        if self.is_closed() {
            return Err(CallError::Closed);
        }
        let more = |taken: usize| (taken < self.calls_max).then_some(taken + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| CallError::Busy)?;
        // From here on the permit's drop gives the place back.
        let mut permit = Permit { guard: self.clone(), trial: false };
        let mut breaker = self.breaker.lock();
        // Only one that is open asks what time it is.
        if breaker.is_open() {
            let pass = breaker.admit(Instant::now());
            drop(breaker);
            permit.trial = pass.ok_or_else(|| self.refusal())? == Pass::Trial;
        }
        Ok(permit)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.breaker.lock().is_open()
    }

    fn refusal(&self) -> CallError {
        if self.unreachable.load(Ordering::Relaxed) { CallError::Unreachable } else { CallError::Open }
    }

    /// Counts a failure that only the caller could see, such as a deadline that passed.
    pub(crate) fn record_failure(&self) {
        self.failed(false);
    }

    fn failed(&self, unreachable: bool) {
        self.unreachable.store(unreachable, Ordering::Relaxed);
        self.breaker.lock().failed(Instant::now(), backoff::random());
    }
}

/// A place in the bulkhead.
#[derive(Debug)]
pub(crate) struct Permit {
    guard: Arc<Guard>,
    trial: bool,
}

impl Permit {
    /// Tells the breaker how the call went: nothing for an answer, or the error.
    pub(crate) fn settle(&mut self, error: Option<&CallError>) {
        match error.map_or(Verdict::Works, verdict) {
            Verdict::Works => self.guard.breaker.lock().succeeded(),
            Verdict::Fails => self.guard.failed(!matches!(error, Some(CallError::Status(_)))),
            Verdict::Unknown => return,
        }
        self.trial = false;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.trial {
            self.guard.breaker.lock().abandoned();
        }
        self.guard.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

enum Verdict {
    Works,
    Fails,
    Unknown,
}

/// What an error says about the health of the upstream.
fn verdict(error: &CallError) -> Verdict {
    match error {
        CallError::Unreachable | CallError::Lost => Verdict::Fails,
        CallError::Status(status) if *status >= 500 => Verdict::Fails,
        CallError::Status(_) | CallError::TooLarge | CallError::NoMemory => Verdict::Works,
        CallError::Gone | CallError::Busy | CallError::Open | CallError::Protocol(_) | CallError::Closed => {
            Verdict::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_beyond_the_limit_and_gives_places_back() {
        let guard = Guard::new(2);
        let first = guard.admit().unwrap();
        let _second = guard.admit().unwrap();
        assert_eq!(guard.admit().unwrap_err(), CallError::Busy);
        drop(first);
        assert_eq!(guard.in_flight(), 1);
        assert!(guard.admit().is_ok());
        guard.close();
        assert_eq!(guard.admit().unwrap_err(), CallError::Closed);
    }

    #[test]
    fn opens_after_failures_in_a_row_and_keeps_no_place_then() {
        let guard = Guard::new(2);
        for _ in 0..breaker::FAILURES_MAX {
            guard.admit().unwrap().settle(Some(&CallError::Lost));
        }
        assert!(guard.is_open());
        assert_eq!(guard.admit().unwrap_err(), CallError::Unreachable, "what cannot be reached may only be restarting");
        assert_eq!(guard.in_flight(), 0);
    }

    #[test]
    fn deadlines_open_it_too() {
        let guard = Guard::new(2);
        for _ in 0..breaker::FAILURES_MAX {
            drop(guard.admit().unwrap());
            guard.record_failure();
        }
        assert_eq!(guard.admit().unwrap_err(), CallError::Open);
    }
}
