//! What goes wrong: crashes, stalls, cuts, lost messages, drains; at chosen moments or by chance.

use std::fmt;

use enfilade_registry::Slot;
use rand::Rng;

use crate::clock::{MILLI, Micros, SECOND};
use crate::ctx::Ctx;
use crate::event::Event;
use crate::setup;

/// Whom a fault hits; who that is, is seen when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Node(usize),
    Leader,
    OwnerOf(Slot),
    SecondOf(Slot),
    TargetOf(Slot),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The process ends, and starts again after a while.
    Crash {
        who: Who,
        restart: Micros,
    },
    /// The process stands still: its timers fire late, what it was sent waits.
    Stall {
        who: Who,
        stall: Micros,
    },
    /// What one node sends does not reach the other.
    CutOneWay {
        from: Who,
        to: Who,
        lasts: Micros,
    },
    /// One node is cut off from all others.
    Isolate {
        who: Who,
        lasts: Micros,
    },
    /// A node reaches nobody but the leader: owners cut off from edges only.
    OnlyLeader {
        who: Who,
        lasts: Micros,
    },
    /// The nodes below this number do not reach the others.
    Partition {
        below: usize,
        lasts: Micros,
    },
    Uncut {
        from: usize,
        to: usize,
    },
    /// The links of the two break.
    Break {
        a: Who,
        b: Who,
    },
    /// Packets are lost and links break, in thousandths.
    Loss {
        packets: u32,
        links: u32,
        lasts: Micros,
    },
    Slow {
        delay_max: Micros,
        lasts: Micros,
    },
    Calmer,
    Drain {
        who: Who,
        lasts: Micros,
    },
    Undrain {
        node: usize,
    },
}

impl Fault {
    /// Its kind, for the summary.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Crash { .. } => "crash",
            Fault::Stall { .. } => "stall",
            Fault::CutOneWay { .. } => "one-way cut",
            Fault::Isolate { .. } => "isolation",
            Fault::OnlyLeader { .. } => "owner cut from edges",
            Fault::Partition { .. } => "partition",
            Fault::Break { .. } => "broken link",
            Fault::Loss { .. } => "loss",
            Fault::Slow { .. } => "slow network",
            Fault::Drain { .. } => "drain",
            Fault::Uncut { .. } | Fault::Calmer | Fault::Undrain { .. } => "end",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A schedule by chance, from 5 s until `end`.
pub(crate) fn by_chance(ctx: &mut Ctx, end: Micros) {
    // Some runs see much trouble, some little.
    let longest = ctx.rng.random_range(600 * MILLI..=6 * SECOND);
    let mut at = 5 * SECOND;
    while at < end {
        let fault = one(ctx);
        ctx.queue.push(at, Event::Fault(fault));
        at += ctx.rng.random_range(10 * MILLI..=longest);
    }
}

fn who(ctx: &mut Ctx) -> Who {
    let slots = usize::from(setup::SLOTS);
    let slot = setup::slots().nth(ctx.rng.random_range(0..slots)).unwrap_or(Slot::MIN);
    match ctx.rng.random_range(0..6) {
        0 => Who::Leader,
        1 => Who::OwnerOf(slot),
        2 => Who::SecondOf(slot),
        3 => Who::TargetOf(slot),
        _ => Who::Node(ctx.rng.random_range(0..ctx.options.nodes)),
    }
}

fn one(ctx: &mut Ctx) -> Fault {
    let lasts = if ctx.rng.random_ratio(1, 3) {
        ctx.rng.random_range(10 * MILLI..=700 * MILLI)
    } else {
        ctx.rng.random_range(700 * MILLI..=7 * SECOND)
    };
    let (who, other) = (who(ctx), who(ctx));
    match ctx.rng.random_range(0..20) {
        0..=3 => Fault::Crash { who, restart: lasts },
        4..=6 => Fault::Stall { who, stall: lasts },
        7..=8 => Fault::CutOneWay { from: who, to: other, lasts },
        9 => Fault::Isolate { who, lasts },
        10 => Fault::OnlyLeader { who, lasts },
        11 => Fault::Partition { below: ctx.rng.random_range(1..ctx.options.nodes), lasts },
        12..=13 => Fault::Break { a: who, b: other },
        14..=15 => Fault::Loss { packets: ctx.rng.random_range(1..=300), links: ctx.rng.random_range(0..=40), lasts },
        16 => Fault::Slow { delay_max: ctx.rng.random_range(30 * MILLI..=600 * MILLI), lasts },
        _ => Fault::Drain { who, lasts },
    }
}
