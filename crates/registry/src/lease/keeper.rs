//! The leader's side of all leases: whom it acknowledges, and whose slots it gives away.
//! Rule: between the last acknowledgement of a run and its `Take` lie at least `give_away_ms`, unless its process is gone.

use std::collections::{BTreeMap, BTreeSet};

use super::reach::Reach;
use super::{Ack, Heartbeat, Timing};
use crate::{Command, Members, NodeId, Run, SlotTable};

/// A heartbeat that may be acknowledged after a quorum round that begins now or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    run: Run,
    seq: u64,
    heard_ms: u64,
    /// Rounds begun before it was heard.
    rounds: u64,
}

impl Receipt {
    /// Whose heartbeat it is.
    pub fn run(&self) -> Run {
        self.run
    }
}

/// A quorum round (ReadIndex), by the order in which they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Round(u64);

/// Why a heartbeat is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LeaseRefused {
    /// This run is not registered (yet).
    #[error("the run is not registered")]
    NotRegistered,
    /// A later run of the node is registered, or the node was removed: this process must stop.
    #[error("the run is over: a later one is registered, or the node was removed")]
    Over,
    /// A later heartbeat was heard already.
    #[error("a later heartbeat was heard")]
    OldBeat,
    /// The run's slots are being taken.
    #[error("the run's slots are being taken")]
    TakePending,
    /// The run does not hear acknowledgements.
    #[error("the run says it is fenced although it is acknowledged")]
    Fenced,
    /// A majority of nodes cannot reach the run's node.
    #[error("a majority of nodes cannot reach the node")]
    Unreachable,
    /// The quorum round began before the heartbeat was heard: it proves nothing.
    #[error("the quorum round began before the heartbeat was heard")]
    RoundTooEarly,
}

/// What the leader knows of one run.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// From when `give_away_ms` counts: the last acknowledged receipt, or since when the run is known.
    since_ms: u64,
    heard_ms: Option<u64>,
    acked: bool,
    seq: u64,
    /// Receipts up to this seq are of before a take.
    void_seq: u64,
    /// As of the last heartbeat.
    fenced: bool,
    /// Since when it is acknowledged while it says that it is fenced.
    fenced_since_ms: Option<u64>,
    taking: bool,
    owner: bool,
}

impl Kept {
    fn new(now_ms: u64) -> Kept {
        Kept {
            since_ms: now_ms,
            heard_ms: None,
            acked: false,
            seq: 0,
            void_seq: 0,
            fenced: true,
            fenced_since_ms: None,
            taking: false,
            owner: false,
        }
    }
}

/// The leases as one leader keeps them, from its election to the end of its lead. Call [`Keeper::observe`] after
/// every change of members or slots, and [`Keeper::lost`] at least every few hundred ms.
#[derive(Clone, Debug)]
pub struct Keeper {
    timing: Timing,
    epoch: u64,
    runs: BTreeMap<Run, Kept>,
    /// Runs that own slots or hold copies.
    holders: BTreeSet<Run>,
    /// Runs of which a later one is registered.
    over: BTreeSet<Run>,
    reach: Reach,
    rounds: u64,
    polled_ms: u64,
}

impl Keeper {
    /// This node was elected, and has applied its own [`Command::Lead`] of this epoch. `holders` may have been
    /// acknowledged by an earlier leader until just now: each keeps its slots for `give_away_ms`.
    pub fn elected(now_ms: u64, timing: Timing, epoch: u64, holders: impl IntoIterator<Item = Run>) -> Keeper {
        let holders: BTreeSet<Run> = holders.into_iter().collect();
        Keeper {
            timing,
            epoch,
            runs: holders.iter().map(|run| (*run, Kept::new(now_ms))).collect(),
            holders,
            over: BTreeSet::new(),
            reach: Reach::default(),
            rounds: 0,
            polled_ms: now_ms,
        }
    }

    /// Takes note of the applied members and slots. A run that is new among the holders has `give_away_ms` from now.
    pub fn observe(&mut self, now_ms: u64, members: &Members, slots: &SlotTable) {
        self.holders = slots.holders();
        for run in &self.holders {
            self.runs.entry(*run).or_insert_with(|| Kept::new(now_ms));
        }
        self.over = self.runs.keys().copied().filter(|run| members.is_superseded(*run)).collect();
        let holders = &self.holders;
        self.runs.retain(|run, _| holders.contains(run) || members.is_current(*run));
    }

    /// A heartbeat arrived. The receipt may be acknowledged after a round that begins from now on.
    ///
    /// # Errors
    /// It will not be acknowledged.
    pub fn heard(&mut self, now_ms: u64, beat: &Heartbeat, members: &Members) -> Result<Receipt, LeaseRefused> {
        if members.is_superseded(beat.run) || members.is_removed(beat.run.node) {
            return Err(LeaseRefused::Over);
        }
        if !members.is_current(beat.run) {
            return Err(LeaseRefused::NotRegistered);
        }
        let kept = self.runs.entry(beat.run).or_insert_with(|| Kept::new(now_ms));
        if beat.seq <= kept.seq {
            return Err(LeaseRefused::OldBeat);
        }
        (kept.seq, kept.heard_ms, kept.fenced) = (beat.seq, Some(now_ms), beat.fenced);
        kept.owner = members.is_owner(beat.run);
        if !beat.fenced {
            kept.fenced_since_ms = None;
        }
        self.reach.report(now_ms, beat.run.node, &beat.unreachable, self.timing.give_away_ms);
        self.may_acknowledge(now_ms, beat.run)?;
        Ok(Receipt { run: beat.run, seq: beat.seq, heard_ms: now_ms, rounds: self.rounds })
    }

    fn may_acknowledge(&self, now_ms: u64, run: Run) -> Result<(), LeaseRefused> {
        let Some(kept) = self.runs.get(&run) else { return Err(LeaseRefused::NotRegistered) };
        let deaf =
            kept.fenced_since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= self.timing.fenced_ms);
        if kept.taking {
            Err(LeaseRefused::TakePending)
        } else if self.over.contains(&run) {
            Err(LeaseRefused::Over)
        } else if deaf && self.holders.contains(&run) {
            Err(LeaseRefused::Fenced)
        } else if self.is_cut(now_ms, run.node) {
            Err(LeaseRefused::Unreachable)
        } else {
            Ok(())
        }
    }

    fn is_cut(&self, now_ms: u64, node: NodeId) -> bool {
        self.reach.is_cut(now_ms, node, self.timing.unreachable_ms)
    }

    /// A quorum round begins now. One round serves all receipts from before it.
    pub fn begin_round(&mut self) -> Round {
        self.rounds += 1;
        Round(self.rounds)
    }

    /// The quorum confirmed `round`, and this node has applied at least the round's index. `applied` is the last index up
    /// to there that changed a slot.
    ///
    /// # Errors
    /// Something came between, or the round proves nothing about this receipt: no acknowledgement.
    pub fn acknowledge(
        &mut self,
        now_ms: u64,
        receipt: Receipt,
        round: Round,
        applied: u64,
    ) -> Result<Ack, LeaseRefused> {
        if round.0 <= receipt.rounds {
            return Err(LeaseRefused::RoundTooEarly);
        }
        self.may_acknowledge(now_ms, receipt.run)?;
        let Some(kept) = self.runs.get_mut(&receipt.run) else { return Err(LeaseRefused::NotRegistered) };
        if receipt.seq <= kept.void_seq {
            return Err(LeaseRefused::TakePending);
        }
        kept.since_ms = kept.since_ms.max(receipt.heard_ms);
        kept.acked = true;
        if kept.fenced {
            kept.fenced_since_ms.get_or_insert(now_ms);
        }
        Ok(Ack { seq: receipt.seq, applied })
    }

    /// The runs whose slots are to be taken now. From here on they get no acknowledgement until [`Keeper::took`];
    /// until then each call names them again. Nobody is lost while there is nobody to give the slots to.
    pub fn lost(&mut self, now_ms: u64) -> Vec<Run> {
        // A leader that stood still itself has heard nobody: it waits as if elected just now.
        if now_ms.saturating_sub(std::mem::replace(&mut self.polled_ms, now_ms)) > self.timing.give_away_ms / 2 {
            self.runs.values_mut().for_each(|kept| kept.since_ms = kept.since_ms.max(now_ms));
        }
        let live = self.live(now_ms);
        let mut lost = Vec::new();
        for run in &self.holders {
            let Some(kept) = self.runs.get_mut(run) else { continue };
            let over = self.over.contains(run);
            let expired = now_ms.saturating_sub(kept.since_ms) >= self.timing.give_away_ms;
            if live.iter().all(|other| other == run) {
                // With nobody to give to, a run that does not hear us gets its chance again.
                if expired && !kept.taking {
                    kept.fenced_since_ms = None;
                }
            } else {
                kept.taking |= over || expired;
            }
            if kept.taking {
                lost.push(*run);
            }
        }
        lost
    }

    /// The same as commands to propose. `applied`: what this node has applied, and told to [`Keeper::observe`].
    pub fn takes(&mut self, now_ms: u64, applied: u64) -> Vec<Command> {
        let lost = self.lost(now_ms);
        let live = self.live(now_ms);
        let take = |lost| Command::Take { lost, live: live.clone(), epoch: self.epoch, upto: applied };
        lost.into_iter().map(take).collect()
    }

    /// The `Take` of `run` is applied: it holds nothing now, and begins anew if it is heard again.
    pub fn took(&mut self, run: Run) {
        self.holders.remove(&run);
        self.over.remove(&run);
        if let Some(kept) = self.runs.get_mut(&run) {
            kept.taking = false;
            kept.acked = false;
            kept.fenced = true;
            kept.fenced_since_ms = None;
            kept.void_seq = kept.seq;
        }
    }

    /// The owners that hold a lease and were heard lately: those to give slots to. In the order of ids.
    pub fn live(&self, now_ms: u64) -> Vec<Run> {
        let fresh_ms = self.timing.act_ms / 2;
        let live = |run: Run, kept: &Kept| {
            let heard = kept.heard_ms.is_some_and(|heard_ms| now_ms.saturating_sub(heard_ms) < fresh_ms);
            heard && kept.acked && kept.owner && !kept.fenced && self.may_acknowledge(now_ms, run).is_ok()
        };
        self.runs.iter().filter(|(run, kept)| live(**run, kept)).map(|(run, _)| *run).collect()
    }
}
