//! Whether a message for the slot runs, waits or is sent away; and how much may wait while the slot is frozen.

use crate::{Fence, NotServed};

/// Most messages that wait for the end of a move, per slot.
pub const QUEUE_MESSAGES_MAX: usize = 256;

/// Most bytes that wait for the end of a move, per slot.
pub const QUEUE_BYTES_MAX: usize = 1 << 20;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It runs, under this fence.
    Run(Fence),
    /// It waits until the move ends: then it runs, or is answered `NotOwner`.
    Queue,
    /// It was not executed.
    Refuse(NotServed),
}

/// What waits, counted; the messages themselves are the caller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    messages: usize,
    bytes: usize,
}

impl Queue {
    /// Room for one more, or none.
    pub(super) fn admit(&mut self, bytes: usize) -> Admission {
        if self.messages >= QUEUE_MESSAGES_MAX || self.bytes.saturating_add(bytes) > QUEUE_BYTES_MAX {
            return Admission::Refuse(NotServed::Busy);
        }
        self.messages += 1;
        self.bytes += bytes;
        Admission::Queue
    }

    /// One that waited was given up by its sender.
    pub(super) fn left(&mut self, bytes: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}
