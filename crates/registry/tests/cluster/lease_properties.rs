//! The one property of leases: nobody acts for slots that were given away. Random delays, losses, stalls and changes
//! of leader, and clocks whose rates differ by up to 10 %.

use enfilade_registry::{Ack, Heartbeat, Holder, Keeper, Receipt, Round, Timing};
use proptest::prelude::*;

use crate::{Cluster, run};

/// The world moves in steps of this many ms of true time.
const STEP_MS: u64 = 10;

/// What chance does in one step.
#[derive(Clone, Copy, Debug)]
struct Dice {
    /// How long what is sent now takes; over 200 it is lost.
    delay: u64,
    /// The leader begins a quorum round.
    round: bool,
    /// Another leader is elected.
    elect: bool,
    /// The owner stands still for so many steps.
    stall: u64,
    /// The owner applies what is committed.
    apply: bool,
}

fn dice() -> impl Strategy<Value = Dice> {
    let delay = prop_oneof![6 => 1..5u64, 3 => 1..60u64, 2 => 100..400u64];
    let stall = prop_oneof![200 => Just(0u64), 1 => 1..400u64];
    (delay, prop::bool::weighted(0.5), prop::bool::weighted(0.003), stall, prop::bool::weighted(0.4))
        .prop_map(|(delay, round, elect, stall, apply)| Dice { delay, round, elect, stall, apply })
}

/// One owner, the leaders that come and go, and what is on its way between them.
struct World {
    cluster: Cluster,
    now: u64,
    /// Rates of the owner's and the leaders' clocks, per mille.
    rates: (u64, u64),
    holder: Holder,
    applied: u64,
    keeper: Keeper,
    leader: u64,
    /// (arrival, beat)
    beats: Vec<(u64, Heartbeat)>,
    /// (arrival, ack)
    acks: Vec<(u64, Ack)>,
    /// Rounds under way, also those of leaders that were deposed since: (end, leader's own keeper, round, receipts).
    rounds: Vec<(u64, u64, Round, Vec<Receipt>)>,
    /// Keepers of deposed leaders that wait for a round.
    deposed: Vec<(u64, Keeper)>,
    waiting: Vec<Receipt>,
    stalled_until: u64,
    /// The index of the take, once decided.
    taken_at: Option<u64>,
}

impl World {
    fn new(rates: (u64, u64), timing: Timing) -> World {
        let mut cluster = Cluster::new(1, 2);
        cluster.assign(&[run(1, 1)]);
        World {
            now: 0,
            rates,
            holder: Holder::new(run(1, 1), timing),
            applied: 0,
            keeper: Keeper::elected(0, timing, 0, cluster.0.slots().holders()),
            leader: 0,
            beats: Vec::new(),
            acks: Vec::new(),
            rounds: Vec::new(),
            deposed: Vec::new(),
            waiting: Vec::new(),
            stalled_until: 0,
            taken_at: None,
            cluster,
        }
    }

    fn owner_ms(&self) -> u64 {
        self.now * self.rates.0 / 1000
    }

    fn leader_ms(&self) -> u64 {
        self.now * self.rates.1 / 1000
    }

    fn step(&mut self, dice: Dice, timing: Timing) {
        self.now += STEP_MS;
        if dice.stall > 0 {
            self.stalled_until = self.now + dice.stall * STEP_MS;
        }
        if dice.elect {
            self.elect(timing);
        }
        self.leader_step(dice);
        if self.now >= self.stalled_until {
            self.owner_step(dice, timing);
        }
        self.check();
    }

    /// The old leader's rounds that began before this may still end well.
    fn elect(&mut self, timing: Timing) {
        let new = Keeper::elected(self.leader_ms(), timing, 0, self.cluster.0.slots().holders());
        let old = std::mem::replace(&mut self.keeper, new);
        self.deposed.push((self.leader, old));
        self.leader += 1;
        self.waiting.clear();
    }

    fn leader_step(&mut self, dice: Dice) {
        let (now_ms, members) = (self.leader_ms(), self.cluster.0.members().clone());
        // Another owner is always there to give slots to.
        let other = Heartbeat { run: run(2, 1), seq: self.now, fenced: false, unreachable: vec![] };
        let other = self.keeper.heard(now_ms, &other, &members).expect("nothing is wrong with it");
        let beats = std::mem::take(&mut self.beats);
        for (at, beat) in beats {
            if at > self.now {
                self.beats.push((at, beat));
            } else if let Ok(receipt) = self.keeper.heard(now_ms, &beat, &members) {
                self.waiting.push(receipt);
            }
        }
        let round = self.keeper.begin_round();
        let _ = self.keeper.acknowledge(now_ms, other, round, 0);
        if dice.round {
            let receipts = std::mem::take(&mut self.waiting);
            self.rounds.push((self.now + dice.delay, self.leader, round, receipts));
        }
        self.end_rounds(dice);
        if self.keeper.lost(now_ms).contains(&run(1, 1)) && self.taken_at.is_none() {
            // Committed at once, which is the worst case.
            self.cluster.take(run(1, 1), &[run(2, 1)]);
            self.taken_at = Some(self.cluster.0.applied());
            self.keeper.took(run(1, 1));
            let (members, slots) = (self.cluster.0.members().clone(), self.cluster.0.slots().clone());
            self.keeper.observe(now_ms, &members, &slots);
        }
    }

    fn end_rounds(&mut self, dice: Dice) {
        let (now, now_ms, leader) = (self.now, self.leader_ms(), self.leader);
        let (ended, going): (Vec<_>, Vec<_>) = std::mem::take(&mut self.rounds).into_iter().partition(|r| r.0 <= now);
        self.rounds = going;
        for (_, of, round, receipts) in ended {
            let deposed = self.deposed.iter_mut().find(|(leader, _)| *leader == of).map(|(_, keeper)| keeper);
            // A deposed leader knows of nothing that was committed since.
            let applied = if of == leader { self.cluster.0.applied() } else { 0 };
            let keeper = if of == leader { Some(&mut self.keeper) } else { deposed };
            let Some(keeper) = keeper else { continue };
            for receipt in receipts {
                if let Ok(ack) = keeper.acknowledge(now_ms, receipt, round, applied)
                    && dice.delay <= 200
                {
                    self.acks.push((now + dice.delay, ack));
                }
            }
        }
    }

    fn owner_step(&mut self, dice: Dice, timing: Timing) {
        let now_ms = self.owner_ms();
        if dice.apply {
            self.applied = self.cluster.0.applied();
            self.holder.applied(self.applied);
        }
        let acks = std::mem::take(&mut self.acks);
        for (at, ack) in acks {
            if at > self.now {
                self.acks.push((at, ack));
            } else {
                self.holder.acked(now_ms, ack);
            }
        }
        if self.now % timing.heartbeat_ms < STEP_MS {
            let beat = self.holder.beat(now_ms, vec![]);
            if dice.delay <= 200 {
                self.beats.push((self.now + dice.delay, beat));
            }
        }
    }

    /// Stalled or not: what it would do if it went on right now.
    fn check(&mut self) {
        let Some(taken_at) = self.taken_at else { return };
        let now_ms = self.owner_ms();
        // An effect of the old term needs a lease, and not to know of the take.
        let acts = self.holder.clone().may_act(now_ms) && self.applied < taken_at;
        assert!(!acts, "acts at {} for slots that were given away", self.now);
    }
}

fn drive(rates: (u64, u64), timing: Timing, schedule: &[Dice]) -> Option<u64> {
    let mut world = World::new(rates, timing);
    for dice in schedule {
        world.step(*dice, timing);
    }
    world.taken_at
}

/// Rates per mille whose ratio is at most 1.1.
fn rates() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![Just((1000, 1100)), Just((1100, 1000)), Just((1000, 1000)), (1000..1100u64, 1000..1100u64)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn nobody_acts_for_what_was_given_away(
        rates in rates(),
        schedule in proptest::collection::vec(dice(), 400..1500),
    ) {
        drive(rates, Timing::default(), &schedule);
    }

    #[test]
    fn a_healthy_owner_is_never_fenced(rates in rates(), delays in proptest::collection::vec(1..60u64, 800)) {
        let mut world = World::new(rates, Timing::default());
        for (n, delay) in delays.into_iter().enumerate() {
            world.step(Dice { delay, round: true, elect: n % 300 == 299, stall: 0, apply: true }, Timing::default());
            let now_ms = world.owner_ms();
            prop_assert!(n < 60 || world.holder.may_act(now_ms), "fenced at {}", world.now);
        }
        prop_assert_eq!(world.taken_at, None);
    }
}

/// The property is worth something: with a lease that is too short it fails.
#[test]
fn a_lease_that_is_too_short_is_found() {
    let timing = Timing { give_away_ms: 1500, ..Timing::default() };
    let quiet = Dice { delay: 20, round: true, elect: false, stall: 0, apply: true };
    let mut schedule = vec![quiet; 200];
    schedule.extend(vec![Dice { delay: 300, round: true, elect: false, stall: 0, apply: false }; 200]);
    let found = std::panic::catch_unwind(|| drive((1000, 1000), timing, &schedule));
    assert!(found.is_err());
    assert!(drive((1000, 1100), Timing::default(), &schedule).is_none(), "not lost before 2.5 s");
}
