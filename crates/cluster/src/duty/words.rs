//! What other nodes say about slots, to those whom it concerns here.

use super::held::Held;
use super::inbox::{Happened, Inbox};
use super::lanes::Lanes;
use super::wires::Wires;
use crate::wire::{self, Word};
use bytes::Bytes;
use enfilade_mesh::{Exchange, Open};
use enfilade_registry::Run;
use enfilade_registry::copy::{CopyAnswer, CopySaid};
use enfilade_registry::duty::DutyEvent;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Listens to the other nodes.
pub(crate) struct Listener {
    pub(crate) held: Arc<Held>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) wires: Arc<Wires>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Listener {
    /// A node begins to speak. One exchange per node, and a later one after a lost link: the mesh bounds them.
    pub(crate) fn exchange(self: &Arc<Self>, from: Run, open: Open, mut exchange: Exchange) {
        let listener = self.clone();
        self.tasks.spawn(async move {
            listener.hear(from, open.payload);
            while let Some(Some(Ok(payload))) = listener.stop.run_until_cancelled(exchange.next()).await {
                listener.hear(from, payload);
            }
        });
    }

    pub(super) fn hear(&self, from: Run, payload: Bytes) {
        let words = match wire::decode_words(payload) {
            Ok(words) => words,
            Err(error) => return tracing::error!(%from, %error, "what a node says about slots is not understood"),
        };
        let mut answers: Vec<CopyAnswer> = Vec::new();
        for word in words {
            match word {
                Word::Copy(message) => {
                    let slot = message.fence.slot;
                    let (answer, event) = self.held.receive(message);
                    add(&mut answers, answer);
                    if let Some(event) = event {
                        self.inbox.put(slot, Happened::Duty(event));
                    }
                }
                Word::Answer(answer) => self.lanes.answered(answer),
                Word::Peer(slot, message) => self.inbox.put(slot, Happened::Duty(DutyEvent::Peer { from, message })),
            }
        }
        answers.into_iter().for_each(|answer| self.wires.say(from.node, Word::Answer(answer)));
    }
}

/// Of two acknowledgements in a row the later says all; and what is missing is said once, because each time that it is
/// said much is sent again.
fn add(answers: &mut Vec<CopyAnswer>, answer: CopyAnswer) {
    if let Some(last) = answers.last_mut() {
        let both = matches!((last.said, answer.said), (CopySaid::Upto(_), CopySaid::Upto(_)));
        if *last == answer || both && last.fence == answer.fence && last.lane == answer.lane {
            *last = answer;
            return;
        }
    }
    answers.push(answer);
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_registry::copy::Lane;
    use enfilade_registry::{CopyId, Fence, Slot, Term};

    #[test]
    fn what_needs_to_be_said_once_is_said_once() {
        let fence = Fence { slot: Slot::MIN, term: Term(1) };
        let answer = |said| CopyAnswer { fence, lane: Lane::Second(CopyId(1)), said };
        let mut answers = Vec::new();
        let said = [1, 2].map(CopySaid::Upto).into_iter().chain([CopySaid::Missing(3); 1_000]);
        said.chain([CopySaid::Missing(4)]).for_each(|said| add(&mut answers, answer(said)));
        assert_eq!(answers, [CopySaid::Upto(2), CopySaid::Missing(3), CopySaid::Missing(4)].map(answer));
    }
}
