//! What the desk proposes to the registry. Those of many slots at once are one command; what is not committed is
//! proposed again by who wants it.

use crate::boxed;
use enfilade_registry::{Command, CopyId, MoveId, Run, Slot, Term, Writer};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Commands without an answer; beyond that the rest waits for its next time.
const PROPOSED_MAX: usize = 32;

/// Slots whose second is, or is not, in sync.
type InSync = BTreeMap<(Run, bool), Vec<(Slot, Term, CopyId)>>;

pub(crate) struct Proposals {
    writer: Arc<dyn Writer>,
    in_sync: InSync,
    done: Vec<(Slot, MoveId)>,
    aborted: Vec<(Slot, MoveId)>,
    proposed: FuturesUnordered<BoxFuture<'static, ()>>,
    /// What tests commit themselves.
    #[cfg(test)]
    told: Vec<Command>,
}

impl Proposals {
    pub(crate) fn new(writer: Arc<dyn Writer>) -> Self {
        Self {
            writer,
            in_sync: BTreeMap::new(),
            done: Vec::new(),
            aborted: Vec::new(),
            proposed: FuturesUnordered::new(),
            #[cfg(test)]
            told: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn drain(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.told)
    }

    pub(crate) fn add(&mut self, command: Command) {
        match command {
            Command::InSync { slots, second, in_sync } => {
                self.in_sync.entry((second, in_sync)).or_default().extend(slots);
            }
            Command::Done { moves } => self.done.extend(moves),
            Command::Abort { moves } => self.aborted.extend(moves),
            other => self.propose(other),
        }
    }

    /// Whether nothing was added since the last [`Proposals::flush`].
    pub(crate) fn is_empty(&self) -> bool {
        self.in_sync.is_empty() && self.done.is_empty() && self.aborted.is_empty()
    }

    /// Proposes what was added.
    pub(crate) fn flush(&mut self) {
        let in_sync = std::mem::take(&mut self.in_sync).into_iter();
        let in_sync: Vec<_> =
            in_sync.map(|((second, in_sync), slots)| Command::InSync { slots, second, in_sync }).collect();
        in_sync.into_iter().for_each(|command| self.propose(command));
        let (done, aborted) = (std::mem::take(&mut self.done), std::mem::take(&mut self.aborted));
        if !done.is_empty() {
            self.propose(Command::Done { moves: done });
        }
        if !aborted.is_empty() {
            self.propose(Command::Abort { moves: aborted });
        }
    }

    fn propose(&mut self, command: Command) {
        #[cfg(test)]
        self.told.push(command.clone());
        if self.proposed.len() >= PROPOSED_MAX {
            return;
        }
        let writer = self.writer.clone();
        self.proposed.push(boxed(async move {
            if let Err(error) = writer.submit(command).await {
                tracing::debug!(%error, "what a slot needs was not committed");
            }
        }));
    }

    /// Carries proposals on; resolves when one was answered, and never while there is none.
    pub(crate) async fn answered(&mut self) {
        if self.proposed.next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
