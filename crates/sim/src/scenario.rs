//! What a run goes through: faults by chance, a fault at one step of a move, or a suspension at one guard.

use std::fmt;
use std::str::FromStr;

use enfilade_registry::Slot;

use crate::clock::{MILLI, Micros, SECOND};
use crate::ctx::Ctx;
use crate::event::Event;
use crate::faults::{Fault, Who};

/// A step of a planned move A → B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MoveStep {
    /// `Move` is applied at A.
    Begun,
    /// A sends the first part of the copy.
    Copying,
    /// A is frozen.
    Frozen,
    /// B has everything and says so.
    Ready,
    /// `Done` is applied somewhere.
    Done,
    /// B serves.
    Served,
}

/// What happens at that step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hit {
    /// A's process ends.
    KillA,
    /// B's process ends.
    KillB,
    /// The leader's process ends.
    KillLeader,
    /// The link between A and B breaks, with what is on it.
    LoseMessage,
    /// A stands still for longer than its lease.
    StallA,
    /// B stands still.
    StallB,
    /// The leader stands still.
    StallLeader,
    /// A does not reach B, but B reaches A.
    CutAtoB,
}

const STEPS: [MoveStep; 6] =
    [MoveStep::Begun, MoveStep::Copying, MoveStep::Frozen, MoveStep::Ready, MoveStep::Done, MoveStep::Served];
const HITS: [Hit; 8] = [
    Hit::KillA,
    Hit::KillB,
    Hit::KillLeader,
    Hit::LoseMessage,
    Hit::StallA,
    Hit::StallB,
    Hit::StallLeader,
    Hit::CutAtoB,
];

/// What a run goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Faults by chance.
    Chance,
    /// A drain, and one fault at one step of the first move that comes there.
    MoveFault(MoveStep, Hit),
    /// The process that asks the n-th guard since 6 s is suspended there for longer than its lease.
    GuardPause(u64),
}

impl Scenario {
    /// How many faults of moves there are.
    pub const MOVE_FAULTS: u64 = (STEPS.len() * HITS.len()) as u64;

    /// The scenario that a seed stands for: half of the seeds leave all to chance.
    pub fn of_seed(seed: u64) -> Scenario {
        match seed % 4 {
            0 => Scenario::move_fault(seed / 4),
            2 => Scenario::GuardPause(seed / 4 % 97 * 7 + seed / 388 % 7),
            _ => Scenario::Chance,
        }
    }

    /// One of the faults of moves, by number.
    pub fn move_fault(number: u64) -> Scenario {
        let number = (number % Scenario::MOVE_FAULTS) as usize;
        Scenario::MoveFault(STEPS[number / HITS.len()], HITS[number % HITS.len()])
    }

    /// When its faults end.
    pub(crate) fn ends(self) -> Micros {
        match self {
            Scenario::Chance => 24 * SECOND,
            Scenario::MoveFault(..) | Scenario::GuardPause(_) => 18 * SECOND,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scenario::Chance => f.pad("chance"),
            Scenario::MoveFault(step, hit) => write!(f, "move:{step:?}:{hit:?}"),
            Scenario::GuardPause(guard) => write!(f, "guard:{guard}"),
        }
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Scenario, String> {
        let all = (0..Scenario::MOVE_FAULTS).map(Scenario::move_fault).chain([Scenario::Chance]);
        let guard = text.strip_prefix("guard:").and_then(|number| number.parse().ok()).map(Scenario::GuardPause);
        all.into_iter()
            .find(|scenario| scenario.to_string() == text)
            .or(guard)
            .ok_or_else(|| format!("no scenario {text:?}: chance, guard:N, or move:STEP:HIT as a report prints it"))
    }
}

impl Ctx {
    /// A move came to a step; the first time, what the scenario says happens.
    pub(crate) fn step(&mut self, slot: Slot, from: Option<usize>, to: Option<usize>, step: MoveStep) {
        let Scenario::MoveFault(at, hit) = self.options.scenario else { return };
        let (Some(a), Some(b)) = (from, to) else { return };
        if at != step || self.move_fault_done || self.now < 6 * SECOND {
            return;
        }
        self.move_fault_done = true;
        self.stats.aimed[1] += 1;
        self.line(format_args!("the move of slot {slot} from n{a} to n{b} is at {step:?}"));
        let (a, b) = (Who::Node(a), Who::Node(b));
        let (restart, stall) = (3 * SECOND, 3_500 * MILLI);
        let fault = match hit {
            Hit::KillA => Fault::Crash { who: a, restart },
            Hit::KillB => Fault::Crash { who: b, restart },
            Hit::KillLeader => Fault::Crash { who: Who::Leader, restart },
            Hit::LoseMessage => Fault::Break { a, b },
            Hit::StallA => Fault::Stall { who: a, stall },
            Hit::StallB => Fault::Stall { who: b, stall },
            Hit::StallLeader => Fault::Stall { who: Who::Leader, stall },
            Hit::CutAtoB => Fault::CutOneWay { from: a, to: b, lasts: 4 * SECOND },
        };
        self.queue.push(self.now, Event::Fault(fault));
    }
}
