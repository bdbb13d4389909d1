//! What a node does while it believes that it leads: leases, takes, owners, seconds and moves.

use enfilade_registry::{Ack, Command, Heartbeat, Keeper, LateMoves, Receipt, Timing};

use super::Node;
use crate::ctx::Ctx;
use crate::defect::Defect;
use crate::event::Packet;

/// Between two proposals of the same.
const PROPOSE_MS: u64 = 300;
/// What the leader believes of the leases when that is the defect.
const TOO_SHORT_MS: u64 = 700;

/// One term of Raft in which this node leads.
pub(super) struct Leader {
    raft_term: u64,
    /// Once its own `Lead` is applied.
    keeper: Option<Keeper>,
    /// Asked for since the last round began.
    asked: Vec<Asked>,
    rounds: Vec<Round>,
    proposed_ms: u64,
    late: LateMoves,
}

/// What waits for a quorum round.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Ack { from: usize, receipt: Receipt },
    Read { from: usize, number: u64 },
}

struct Round {
    raft: u64,
    keeper: enfilade_registry::lease::Round,
    index: u64,
    asked: Vec<Asked>,
}

impl Node {
    /// Notes that this node leads now, or no longer.
    pub(super) fn follow_role(&mut self, ctx: &mut Ctx) {
        let leads = self.raft.is_leader().then_some(self.raft.term);
        if self.leader.as_ref().map(|leader| leader.raft_term) == leads {
            return;
        }
        self.leader = leads.map(|raft_term| Leader {
            raft_term,
            keeper: None,
            asked: Vec::new(),
            rounds: Vec::new(),
            proposed_ms: 0,
            late: LateMoves::default(),
        });
        match leads {
            Some(term) => {
                ctx.stats.elections += 1;
                ctx.line(format_args!("n{} leads in Raft term {term}", self.id));
            }
            None => ctx.line(format_args!("n{} leads no longer", self.id)),
        }
    }

    pub(crate) fn leads(&self) -> bool {
        self.leader.is_some()
    }

    fn keeper(&mut self) -> Option<&mut Keeper> {
        self.leader.as_mut()?.keeper.as_mut()
    }

    /// An entry was applied here; its own `Lead` makes the leader ready.
    pub(super) fn lead_applied(&mut self, ctx: &mut Ctx, command: Option<&Command>) {
        let now_ms = self.now_ms(ctx);
        let (members, slots) = (self.machine.members().clone(), self.machine.slots().clone());
        let timing = keeper_timing(ctx, self.timing);
        let Some(leader) = &mut self.leader else { return };
        match &mut leader.keeper {
            None if command == Some(&Command::Lead { epoch: leader.raft_term }) => {
                let since_ms =
                    if ctx.options.has(Defect::NoNewLeaderWait) { now_ms - timing.give_away_ms } else { now_ms };
                let mut keeper = Keeper::elected(since_ms, timing, leader.raft_term, slots.holders());
                keeper.observe(since_ms, &members, &slots);
                if since_ms < now_ms {
                    // The keeper must not take the leap for a standstill of its own.
                    keeper.lost(since_ms + timing.give_away_ms / 2);
                    keeper.lost(now_ms);
                }
                leader.keeper = Some(keeper);
            }
            Some(keeper) => {
                keeper.observe(now_ms, &members, &slots);
                if let Some(Command::Take { lost, .. }) = command {
                    keeper.took(*lost);
                }
            }
            None => {}
        }
    }

    pub(super) fn heard(&mut self, ctx: &mut Ctx, from: usize, beat: &Heartbeat) {
        let (now_ms, members) = (self.now_ms(ctx), self.machine.members().clone());
        let Some(keeper) = self.keeper() else { return };
        match keeper.heard(now_ms, beat, &members) {
            Ok(receipt) => self.ask_round(Asked::Ack { from, receipt }),
            Err(refused) => ctx.line(format_args!("n{} refuses the beat of {}: {refused}", self.id, beat.run)),
        }
    }

    pub(super) fn read_index(&mut self, _ctx: &mut Ctx, from: usize, number: u64) {
        if self.keeper().is_some() {
            self.ask_round(Asked::Read { from, number });
        }
    }

    fn ask_round(&mut self, asked: Asked) {
        if let Some(leader) = &mut self.leader {
            leader.asked.push(asked);
        }
    }

    /// Begins a quorum round for all that was asked since the last one.
    fn begin_round(&mut self, ctx: &mut Ctx) {
        let Some(leader) = &mut self.leader else { return };
        let Some(keeper) = leader.keeper.as_mut().filter(|_| !leader.asked.is_empty()) else { return };
        let Some(raft) = self.raft.heartbeat() else { return };
        let round = Round {
            raft,
            keeper: keeper.begin_round(),
            index: self.raft.commit,
            asked: std::mem::take(&mut leader.asked),
        };
        leader.rounds.push(round);
        self.confirm_rounds(ctx);
    }

    /// Answers what waited for rounds that a majority has confirmed.
    pub(super) fn confirm_rounds(&mut self, ctx: &mut Ctx) {
        let (now_ms, applied) = (self.now_ms(ctx), self.machine.applied());
        let changed = self.machine.slots().version();
        let confirmed = if ctx.options.has(Defect::AckWithoutQuorum) { u64::MAX } else { self.raft.round_confirmed() };
        let Some(leader) = &mut self.leader else { return };
        let Some(keeper) = &mut leader.keeper else { return };
        let mut answers = Vec::new();
        leader.rounds.retain_mut(|round| {
            let done = round.raft <= confirmed && round.index <= applied;
            if done {
                for asked in std::mem::take(&mut round.asked) {
                    match asked {
                        Asked::Ack { from, receipt } => {
                            let ack: Result<Ack, _> = keeper.acknowledge(now_ms, receipt, round.keeper, changed);
                            answers.extend(ack.ok().map(|ack| (from, Packet::Ack(ack))));
                        }
                        Asked::Read { from, number } => {
                            answers.push((from, Packet::Index { number, index: round.index }));
                        }
                    }
                }
            }
            !done
        });
        for (to, packet) in answers {
            ctx.packet(self.id, to, packet);
        }
    }

    pub(super) fn lead_tick(&mut self, ctx: &mut Ctx) {
        self.begin_round(ctx);
        let (now_ms, applied) = (self.now_ms(ctx), self.machine.applied());
        let own = self.raft.lead().map_or(u64::MAX, |lead| lead.own);
        let Some(leader) = &mut self.leader else { return };
        let due = now_ms >= leader.proposed_ms + PROPOSE_MS;
        let Some(keeper) = &mut leader.keeper else {
            if due && applied >= own {
                leader.proposed_ms = now_ms;
                let epoch = leader.raft_term;
                self.submit(ctx, Command::Lead { epoch });
            }
            return;
        };
        let (takes, live) = (keeper.takes(now_ms, applied), keeper.live(now_ms));
        if !due {
            return;
        }
        let slots = self.machine.slots().clone();
        let late = self.leader.as_mut().and_then(|leader| leader.late.look(now_ms, &slots, self.timing.move_ms));
        let mut commands = crate::setup::missing(&self.machine);
        commands.extend(takes.iter().flat_map(|take| self.promote(ctx, take)));
        let taking = !takes.is_empty();
        commands.extend(takes);
        if !taking {
            commands.extend(self.machine.plan(&live));
            commands.extend(late);
        }
        if let (false, Some(leader)) = (commands.is_empty(), &mut self.leader) {
            leader.proposed_ms = now_ms;
        }
        for command in commands {
            self.submit(ctx, command);
        }
    }

    /// The defect: before a take, its leader says that the seconds are in step, whatever they are.
    fn promote(&self, ctx: &Ctx, take: &Command) -> Vec<Command> {
        let Command::Take { lost, .. } = take else { return Vec::new() };
        if !ctx.options.has(Defect::UnsyncedSecondPromoted) {
            return Vec::new();
        }
        let behind = self.machine.slots().iter().filter(|(_, record)| record.owner == Some(*lost) && !record.in_sync);
        let claim = behind.filter_map(|(slot, record)| {
            let slots = vec![(slot, record.term, record.copy)];
            Some(Command::InSync { slots, second: record.second?, in_sync: true })
        });
        claim.collect()
    }
}

fn keeper_timing(ctx: &Ctx, timing: Timing) -> Timing {
    if ctx.options.has(Defect::LeaseTooShort) { Timing { give_away_ms: TOO_SHORT_MS, ..timing } } else { timing }
}
