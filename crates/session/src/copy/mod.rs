//! The second copy, by content: what the owner tells the second of its sessions' resumable streams, and what the second
//! keeps of it, so that it can go on with them when it becomes the owner.
//!
//! How entries travel, and whether the second is in sync, is not known here.

mod book;
mod entry;

pub use book::{Book, SessionCopy};
pub(crate) use book::{StreamCopy, answered};
pub use entry::{CopyChange, CopyEntry, EntryError, OpenCall};

use crate::stream::Stream;
use enfilade_registry::{Fence, SessionId};
use std::fmt;
use std::sync::Weak;

/// Where entries go, and where they come back from.
pub trait Copies: Send + Sync {
    /// Takes an entry to the slot's second. Entries of one session are given, and must be applied, in this order;
    /// confirming one confirms all earlier ones of its stream. Must not block, nor call into the owner but by
    /// [`Confirm::confirm`], which may be called at once. An entry under a term that is over is dropped unconfirmed.
    fn append(&self, fence: Fence, entry: CopyEntry, confirm: Confirm);

    /// What this node held of a session as its slot's second, when it takes the session up as its owner. Asked once per
    /// session and term, under locks of the owner's: it may give up what it gives, and must not call into the owner.
    fn restore(&self, session: &SessionId) -> Option<SessionCopy>;

    /// False where there never is a second: then streams cost nothing more.
    fn keeps(&self) -> bool {
        true
    }
}

/// Nobody keeps a copy: every event may leave at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCopies;

impl Copies for NoCopies {
    fn append(&self, _: Fence, _: CopyEntry, confirm: Confirm) {
        confirm.confirm();
    }

    fn restore(&self, _: &SessionId) -> Option<SessionCopy> {
        None
    }

    fn keeps(&self) -> bool {
        false
    }
}

/// To be called once, when the bytes of an entry may leave. Dropped uncalled, they never do.
pub struct Confirm(Whom);

enum Whom {
    Nobody,
    Stream { stream: Weak<Stream>, seq: u64 },
    Call(Box<dyn FnOnce() + Send>),
}

impl Confirm {
    /// Nobody waits for it.
    #[must_use]
    pub fn nobody() -> Self {
        Self(Whom::Nobody)
    }

    /// Runs a function, for those who hand entries on and for tests.
    pub fn call(then: impl FnOnce() + Send + 'static) -> Self {
        Self(Whom::Call(Box::new(then)))
    }

    pub(crate) fn event(stream: Weak<Stream>, seq: u64) -> Self {
        Self(Whom::Stream { stream, seq })
    }

    /// The entry is safe.
    pub fn confirm(self) {
        match self.0 {
            Whom::Nobody => {}
            Whom::Stream { stream, seq } => {
                if let Some(stream) = stream.upgrade() {
                    stream.confirmed(seq);
                }
            }
            Whom::Call(then) => then(),
        }
    }

    /// True when nobody waits for it: it needs no acknowledgement.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        matches!(self.0, Whom::Nobody)
    }
}

impl fmt::Debug for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Confirm")
    }
}
