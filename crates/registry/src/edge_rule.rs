//! What an edge does when the owner did not answer: send again, say "outcome unknown", or refuse.
//! Rule: what may have run is sent again only if it is safe, and then once. "Not executed" may always be sent again.

use crate::{NotServed, Timing};

/// First wait before a message is sent again; it doubles.
const WAIT_MIN_MS: u64 = 10;

/// Longest such wait. A change of the slot table ends it early.
const WAIT_MAX_MS: u64 = 200;

/// How far an exchange with an owner had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The frame was not written: there is no link.
    NotSent,
    /// The owner said that nothing was executed.
    NotServed(NotServed),
    /// The link was lost after the frame was written, before the head of an answer came.
    LostBeforeHead,
    /// The link was lost while the answer streamed.
    LostInStream {
        /// Whether the client's revision lets it resume the stream.
        resumable: bool,
    },
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Send it to the slot's owner, after this time or at once when the slot table changes.
    Again {
        /// How long to wait.
        wait_ms: u64,
    },
    /// Answer with the error "outcome unknown".
    Unknown,
    /// End the client's stream without an answer: the client resumes it at the new owner.
    EndStream,
    /// 503 with `Retry-After`: it was not executed.
    Unavailable,
    /// The message's deadline passed; whether it ran is in `may_have_run`.
    Deadline {
        /// Whether it may have run.
        may_have_run: bool,
    },
}

/// The fate of one message at its edge.
#[derive(Clone, Debug)]
pub struct EdgeRule {
    safe: bool,
    replayed: bool,
    may_have_run: bool,
    deadline_ms: Option<u64>,
    hold_until_ms: u64,
    wait_ms: u64,
}

impl EdgeRule {
    /// A message arrived. `safe`: it may run twice. `deadline_ms` is on the clock of `now_ms`.
    pub fn new(now_ms: u64, safe: bool, deadline_ms: Option<u64>, timing: &Timing) -> EdgeRule {
        EdgeRule {
            safe,
            replayed: false,
            may_have_run: false,
            deadline_ms,
            hold_until_ms: now_ms.saturating_add(timing.hold_ms),
            wait_ms: WAIT_MIN_MS,
        }
    }

    /// An attempt failed.
    pub fn failed(&mut self, now_ms: u64, failure: Failure) -> Verdict {
        match failure {
            Failure::NotSent | Failure::NotServed(_) => {}
            Failure::LostBeforeHead => {
                self.may_have_run = true;
                if !self.safe || self.replayed {
                    return Verdict::Unknown;
                }
                self.replayed = true;
            }
            // What came already cannot be taken back, so it is never sent again, safe or not.
            Failure::LostInStream { resumable: true } => return Verdict::EndStream,
            Failure::LostInStream { resumable: false } => return Verdict::Unknown,
        }
        if self.deadline_ms.is_some_and(|deadline_ms| now_ms >= deadline_ms) {
            return Verdict::Deadline { may_have_run: self.may_have_run };
        }
        if now_ms >= self.hold_until_ms {
            return if self.may_have_run { Verdict::Unknown } else { Verdict::Unavailable };
        }
        let wait_ms = self.wait_ms.min(self.until_ms().saturating_sub(now_ms));
        self.wait_ms = (self.wait_ms * 2).min(WAIT_MAX_MS);
        Verdict::Again { wait_ms }
    }

    /// Until when it is held, if nobody serves its slot.
    pub fn until_ms(&self) -> u64 {
        self.deadline_ms.map_or(self.hold_until_ms, |deadline_ms| deadline_ms.min(self.hold_until_ms))
    }

    /// Whether an earlier attempt may have run: then only "outcome unknown" or an answer may end it.
    pub fn may_have_run(&self) -> bool {
        self.may_have_run
    }
}
