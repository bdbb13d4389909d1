//! Calls that are under way when their slot is moved: the former owner goes on with them, and what they say goes to the
//! new owner, who puts it on the streams that it got with the move.
//!
//! Here is the former owner's side, [`Finishing`]; the new owner's is [`Foreign`]. How they reach each other is not known
//! here. Rule: only calls that have a numbered stream are handed over, so that their clients go on reading elsewhere. A
//! slot may be moved on while calls are finished for it: then its former owner is the latter's and the next one's.

mod foreign;
mod outbox;

pub use foreign::Foreign;
pub(crate) use foreign::{Back, Backs};
pub(crate) use outbox::Outbox;

use crate::copy::CopyEntry;
use crate::live::Live;
use bytes::Bytes;
use enfilade_mcp::{Envelope, Id, Kind};
use enfilade_registry::SessionId;
use std::collections::HashMap;
use std::sync::Arc;

/// What a client says to the new owner of a call that the former owner finishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// The session.
    pub session: SessionId,
    /// What it says.
    pub what: Said,
}

/// What a client says of calls that another node finishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It does not want the answer to this request any more; the JSON text of its id.
    Cancel(Box<str>),
    /// It answered a question, or reports progress on one: a whole message.
    Message(Bytes),
}

/// The calls of one slot that this node finishes for another. Dropped, they end without another word.
pub struct Finishing {
    calls: Arc<Calls>,
}

/// Shared with the node, which ends sessions.
pub(crate) struct Calls {
    lives: HashMap<SessionId, Arc<Live>>,
    outbox: Arc<Outbox>,
}

impl Calls {
    pub(crate) fn new(lives: HashMap<SessionId, Arc<Live>>, outbox: Arc<Outbox>) -> Arc<Self> {
        Arc::new(Self { lives, outbox })
    }

    /// The session has ended, and with it its calls.
    pub(crate) fn end(&self, session: &SessionId) {
        if let Some(live) = self.lives.get(session) {
            live.suspend();
        }
    }

    /// The session, if calls of it are among these.
    fn live(&self, session: &SessionId) -> Option<Arc<Live>> {
        self.lives.get(session).cloned()
    }

    /// Whether another node finishes some of them for this one.
    fn came_with(&self, back: &Arc<Back>) -> bool {
        self.lives.values().any(|live| live.came_with(back) && live.has_foreign())
    }

    fn are_over(&self) -> bool {
        self.lives.values().all(|live| live.in_flight() == 0)
    }
}

impl Finishing {
    pub(crate) fn new(calls: Arc<Calls>) -> Self {
        Self { calls }
    }

    /// What the new owner must be told next, in order; nothing once all calls have ended. Cancel safe.
    pub async fn next(&self) -> Option<Vec<CopyEntry>> {
        loop {
            // In this order: what a call says last is there before it has ended.
            let over = self.calls.are_over();
            let said = self.calls.outbox.take();
            if !said.is_empty() {
                return Some(said);
            }
            if over {
                return None;
            }
            self.calls.outbox.nudged().await;
        }
    }

    /// The client said something to the new owner. What goes to an upstream is not waited for.
    pub fn hear(&self, aside: Aside) {
        let Some(live) = self.calls.lives.get(&aside.session).cloned() else { return };
        match aside.what {
            Said::Cancel(id) => {
                if let Some(id) = Id::from_json(&id) {
                    live.cancel(&id);
                }
            }
            Said::Message(text) => live.spawn({
                let live = live.clone();
                async move { hear(&live, &text).await }
            }),
        }
    }
}

async fn hear(live: &Arc<Live>, text: &[u8]) {
    match Envelope::parse(text) {
        Ok(Envelope { kind: Kind::Response(response), text, .. }) => {
            live.answer(text, &response).await;
        }
        Ok(Envelope { kind: Kind::Notification(notification), text, .. }) => {
            live.tell_upstreams(text, &notification).await;
        }
        // The new owner has read it: it sends nothing else.
        Ok(_) | Err(_) => {}
    }
}

impl Drop for Finishing {
    fn drop(&mut self) {
        self.calls.outbox.close();
        self.calls.lives.values().for_each(|live| live.lose());
    }
}
