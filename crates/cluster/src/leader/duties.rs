//! What a leader proposes: takes, owners, seconds, moves, and the time.

use crate::boxed;
use enfilade_raft::Raft;
use enfilade_registry::{Command, Keeper, LateMoves, Members, Reader, Run, SlotTable, Writer, plan};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How long the first owner of a new cluster waits for the others, in ms: else it gets all slots.
const FOUNDING_MS: u64 = 2000;
/// How long a new leader waits for other owners before it gives slots away, in ms. Below half of the time after which a
/// [`Keeper`] that is not asked takes it that the leader stood still.
const RESTART_MS: u64 = 1000;
/// Between two ticks of registry time, in ms.
const TICK_MS: u64 = 1000;

/// A proposal that was answered.
pub(crate) enum Done {
    Took(Run, bool),
    Planned,
    Ticked(u64, bool),
}

pub(crate) struct Duties {
    raft: Arc<Raft>,
    since_ms: u64,
    ticked_ms: u64,
    /// What was proposed and not answered yet: one of each kind, one per run that is taken from.
    pub(crate) proposed: FuturesUnordered<BoxFuture<'static, Done>>,
    taking: BTreeSet<Run>,
    planning: bool,
    ticking: bool,
    seen: Option<(u64, Arc<Members>)>,
    /// For what there was nothing to plan.
    settled: Option<(u64, Arc<Members>, Vec<Run>)>,
    late: LateMoves,
    move_ms: u64,
    /// All owners were live at the same time since this node leads.
    all_here: bool,
}

impl Duties {
    pub(crate) fn new(raft: Arc<Raft>, move_ms: u64, now_ms: u64) -> Self {
        Self {
            raft,
            since_ms: now_ms,
            ticked_ms: now_ms,
            proposed: FuturesUnordered::new(),
            taking: BTreeSet::new(),
            planning: false,
            ticking: false,
            seen: None,
            settled: None,
            late: LateMoves::default(),
            move_ms,
            all_here: false,
        }
    }

    /// Looks what is to be done.
    pub(crate) fn poll(&mut self, keeper: &mut Keeper, now_ms: u64) {
        // In this order the table holds at least what was applied at the index.
        let applied = self.raft.index();
        let (table, members) = (self.raft.slot_table(), self.raft.members());
        self.observe(keeper, now_ms, &table, &members);
        let live = keeper.live(now_ms);
        self.all_here = self.all_here || self.is_complete(&members, &live);
        // After a restart of all, the first that is back shall not get everything.
        if self.all_here || now_ms >= self.since_ms + RESTART_MS {
            self.take(keeper, now_ms, applied);
        }
        if !self.planning && self.taking.is_empty() {
            self.plan(now_ms, &table, &members, live);
        }
        if !self.ticking && now_ms >= self.ticked_ms + TICK_MS {
            self.ticking = true;
            let (raft, elapsed_ms) = (self.raft.clone(), now_ms - self.ticked_ms);
            self.proposed.push(boxed(async move {
                let done = raft.submit(Command::Tick { elapsed_ms }).await.is_ok();
                Done::Ticked(now_ms, done)
            }));
        }
    }

    /// Something was applied. Where slots have moved, others may follow at once.
    pub(crate) fn applied(&mut self, keeper: &mut Keeper, now_ms: u64) {
        let version = self.raft.slot_table().version();
        if self.seen.as_ref().is_some_and(|(seen, _)| *seen != version) {
            self.poll(keeper, now_ms);
        }
    }

    /// Whether every voter has registered, and every owner is live.
    fn is_complete(&self, members: &Members, live: &[Run]) -> bool {
        let registered = self.raft.status().borrow().voters.iter().all(|voter| members.get(*voter).is_some());
        registered && members.owners().all(|run| live.contains(&run))
    }

    fn observe(&mut self, keeper: &mut Keeper, now_ms: u64, table: &SlotTable, members: &Arc<Members>) {
        let same = |seen: &(u64, Arc<Members>)| seen.0 == table.version() && Arc::ptr_eq(&seen.1, members);
        if !self.seen.as_ref().is_some_and(same) {
            keeper.observe(now_ms, members, table);
            self.seen = Some((table.version(), members.clone()));
        }
    }

    fn take(&mut self, keeper: &mut Keeper, now_ms: u64, applied: u64) {
        for take in keeper.takes(now_ms, applied) {
            let Command::Take { lost, .. } = take else { continue };
            if self.taking.insert(lost) {
                tracing::warn!(node = %lost, "an owner lost its lease: its slots are taken");
                let raft = self.raft.clone();
                self.proposed.push(boxed(async move { Done::Took(lost, raft.submit(take).await.is_ok()) }));
            }
        }
    }

    fn plan(&mut self, now_ms: u64, table: &SlotTable, members: &Arc<Members>, live: Vec<Run>) {
        if table.version() == 0 && !self.all_here && now_ms < self.since_ms + FOUNDING_MS {
            return;
        }
        let settled = |(version, known, runs): &(u64, Arc<Members>, Vec<Run>)| {
            *version == table.version() && Arc::ptr_eq(known, members) && *runs == live
        };
        if table.moving() == 0 && self.settled.as_ref().is_some_and(settled) {
            return;
        }
        let mut commands: Vec<Command> = self.late.look(now_ms, table, self.move_ms).into_iter().collect();
        commands.extend(plan(table, members, &live));
        if commands.is_empty() {
            self.settled = Some((table.version(), members.clone(), live));
            return;
        }
        self.planning = true;
        let raft = self.raft.clone();
        self.proposed.push(boxed(async move {
            let submitted = commands.into_iter().map(|command| raft.submit(command));
            for error in futures::future::join_all(submitted).await.into_iter().filter_map(Result::err) {
                tracing::debug!(%error, "a plan was not committed; it is made anew");
            }
            Done::Planned
        }));
    }

    /// A proposal was answered.
    pub(crate) fn done(&mut self, keeper: &mut Keeper, now_ms: u64, done: Done) {
        match done {
            Done::Took(run, done) => {
                self.taking.remove(&run);
                if done {
                    keeper.took(run);
                }
            }
            Done::Planned => self.planning = false,
            Done::Ticked(at_ms, done) => {
                self.ticking = false;
                if done {
                    self.ticked_ms = at_ms;
                } else {
                    tracing::error!("registry time stands still: a tick was not committed");
                }
            }
        }
        let (table, members) = (self.raft.slot_table(), self.raft.members());
        self.observe(keeper, now_ms, &table, &members);
    }
}
