//! Hints: what each node says about itself, in one small broadcast of which only the newest counts.
//! A broadcast is sent a few times and may miss somebody, so each node says it again, with a higher beat.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use enfilade_registry::{ClusterId, NodeId, Run};
use foca::{BroadcastHandler, Invalidates};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::seat::Seat;

/// How many nodes [`Hint::sees`] holds: with all of them the broadcast fits into any packet.
pub const SEES_MAX: usize = 32;

/// Hints that are kept at most. More nodes than this are alive in no cluster of ours.
const HINTS_MAX: usize = 4096;

/// What a node says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// Raised by the node with each change; of one run only the highest version counts.
    pub version: u64,
    /// How much it carries: a number that only compares with other nodes'.
    pub load: u32,
    /// It is being emptied.
    pub draining: bool,
    /// The cluster that its data belongs to; none before it was founded or joined.
    pub initialised: Option<ClusterId>,
    /// The registry's leader as it knows him, with the Raft term.
    pub leader: Option<(u64, NodeId)>,
    /// The nodes that it has a link to; only the first [`SEES_MAX`] are sent.
    pub sees: Vec<NodeId>,
}

/// A hint on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) run: Run,
    /// How many times this version was said again.
    pub(crate) beat: u32,
    pub(crate) hint: Hint,
}

impl Said {
    fn order(&self) -> (u64, u64, u32) {
        (self.run.generation.0, self.hint.version, self.beat)
    }

    pub(crate) fn bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_allocvec(self)
    }
}

/// Which broadcast replaces which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SaidKey {
    node: NodeId,
    order: (u64, u64, u32),
}

impl Invalidates for SaidKey {
    fn invalidates(&self, other: &SaidKey) -> bool {
        self.node == other.node && self.order >= other.order
    }
}

/// The newest hint of each node, shared between foca, who fills it, and the driver, who reads it.
#[derive(Clone, Debug, Default)]
pub(crate) struct HintBook {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    newest: BTreeMap<NodeId, Said>,
    changed: bool,
}

impl HintBook {
    /// The newest hint of exactly this run.
    pub(crate) fn of(&self, run: Run) -> Option<Hint> {
        let inner = self.inner.lock();
        inner.newest.get(&run.node).filter(|said| said.run == run).map(|said| said.hint.clone())
    }

    /// Whether a hint is different since the last call.
    pub(crate) fn take_changed(&self) -> bool {
        std::mem::take(&mut self.inner.lock().changed)
    }

    /// Forgets nodes that are gone, once they are many: a hint may well arrive before its node is known.
    pub(crate) fn prune(&self, alive: &[NodeId]) {
        let newest = &mut self.inner.lock().newest;
        if newest.len() > 2 * alive.len() + 64 {
            newest.retain(|node, _| alive.contains(node));
        }
    }

    /// Whether it was news.
    fn learn(&self, said: Said) -> bool {
        let mut inner = self.inner.lock();
        let full = inner.newest.len() >= HINTS_MAX;
        let changed = match inner.newest.entry(said.run.node) {
            Entry::Occupied(known) if known.get().order() >= said.order() => return false,
            Entry::Vacant(_) if full => return false,
            Entry::Occupied(mut known) => {
                let before = known.insert(said.clone());
                (before.run, before.hint.version) != (said.run, said.hint.version)
            }
            Entry::Vacant(free) => {
                free.insert(said);
                true
            }
        };
        inner.changed |= changed;
        true
    }
}

impl BroadcastHandler<Seat> for HintBook {
    type Key = SaidKey;
    type Error = postcard::Error;

    fn receive_item(&mut self, data: &[u8], _sender: Option<&Seat>) -> Result<Option<SaidKey>, postcard::Error> {
        let said: Said = postcard::from_bytes(data)?;
        let key = SaidKey { node: said.run.node, order: said.order() };
        Ok(self.learn(said).then_some(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_registry::Generation;

    fn said(generation: u64, version: u64, beat: u32) -> Said {
        let run = Run { node: NodeId(7), generation: Generation(generation) };
        Said { run, beat, hint: Hint { version, load: beat, ..Hint::default() } }
    }

    #[test]
    fn only_the_newest_counts() -> Result<(), postcard::Error> {
        let mut book = HintBook::default();
        let mut news = |said: Said| Ok::<_, postcard::Error>(book.receive_item(&said.bytes()?, None)?.is_some());
        assert!(news(said(1, 5, 0))?);
        assert!(!news(said(1, 5, 0))?, "the same again");
        assert!(news(said(1, 5, 1))?, "said again: passed on");
        assert!(!news(said(1, 4, 9))?, "an older version");
        assert!(news(said(2, 1, 0))?, "a later run begins again");
        assert!(!news(said(1, 9, 0))?, "the run before");
        assert_eq!(book.of(said(2, 1, 0).run).map(|hint| hint.version), Some(1));
        assert_eq!(book.of(said(1, 1, 0).run), None);
        Ok(())
    }

    #[test]
    fn saying_it_again_changes_nothing_for_readers() -> Result<(), postcard::Error> {
        let mut book = HintBook::default();
        book.receive_item(&said(1, 5, 0).bytes()?, None)?;
        assert!(book.take_changed());
        book.receive_item(&said(1, 5, 1).bytes()?, None)?;
        assert!(!book.take_changed());
        book.receive_item(&said(1, 6, 0).bytes()?, None)?;
        assert!(book.take_changed());
        Ok(())
    }

    #[test]
    fn garbage_is_an_error_and_the_largest_hint_is_small() -> Result<(), postcard::Error> {
        assert!(HintBook::default().receive_item(&[0xff; 12], None).is_err());
        let run = Run { node: NodeId(u64::MAX), generation: Generation(u64::MAX) };
        let hint = Hint {
            version: u64::MAX,
            load: u32::MAX,
            draining: true,
            initialised: Some(ClusterId(u128::MAX)),
            leader: Some((u64::MAX, NodeId(u64::MAX))),
            sees: vec![NodeId(u64::MAX); SEES_MAX],
        };
        let bytes = Said { run, beat: u32::MAX, hint }.bytes()?.len();
        assert!(bytes <= 430, "{bytes} bytes");
        Ok(())
    }
}
