//! Desks that tick only what waits do the same as desks that tick every slot.

use super::{Arc, AtomicU64, Command, Ordering, Reader, Slot, Slots, World, left};

/// In the first, second and last word of those that wait.
const PLAYED: [u16; 6] = [0, 5, 63, 64, 100, 4095];
const NODES: usize = 3;

/// A world, and what its sessions said so far.
struct Play {
    world: World,
    confirms: Vec<Arc<AtomicU64>>,
}

impl Play {
    fn new(everything: bool) -> Self {
        Self { world: World { everything, ..World::new(NODES as u64) }, confirms: Vec::new() }
    }

    /// Does what the dice say.
    fn step(&mut self, dice: u32) {
        let world = &mut self.world;
        let slot = Slot::new(PLAYED[(dice >> 8) as usize % PLAYED.len()]).expect("a slot");
        let (number, run) = {
            let number = (dice >> 16) as usize % NODES;
            (number, world.nodes[number].run)
        };
        let record = *world.registry.slot_table().get(slot);
        let owner = world.nodes.iter().position(|node| Some(node.run) == record.owner).expect("an owner");
        let slots = vec![(slot, record.term)];
        // What the registry refuses to one world it refuses to the other.
        match dice % 32 {
            0..=9 => self.confirms.push(world.say_in(slot, owner, self.confirms.len() as u64)),
            // Long enough that a move is given up.
            10 if world.deaf.is_some() => world.pass(5200),
            10..=19 => world.pass(u64::from(dice >> 24)),
            20..=23 => drop(world.registry.apply(&Command::Seconds { slots, second: run })),
            24..=27 => drop(world.registry.apply(&Command::Move { slots, to: run })),
            28 => world.deaf = Some(number),
            29 | 30 => world.deaf = None,
            _ if dice >> 30 == 0 => {
                let live = world.nodes.iter().map(|node| node.run).filter(|other| *other != run).collect();
                drop(world.registry.apply(&Command::Take { lost: run, live, epoch: 0, upto: u64::MAX }));
            }
            _ => world.nodes[owner].sessions.in_flight.store((dice >> 24) as usize & 1, Ordering::Relaxed),
        }
        world.run();
    }

    /// What each node is to the slots, as it shows to its sessions; and which events may leave.
    fn shown(&self) -> (Vec<impl PartialEq + use<>>, Vec<bool>) {
        let slots = PLAYED.into_iter().filter_map(Slot::new);
        let of =
            |slot| self.world.nodes.iter().map(move |node| (node.slots.owned(slot), node.slots.fence(slot).is_ok()));
        (slots.flat_map(of).collect(), self.confirms.iter().map(|confirm| left(confirm)).collect())
    }
}

/// A fixed sequence that looks random, the same everywhere.
fn sequence(seed: u64, len: usize) -> impl Iterator<Item = u32> {
    let next = |state: &u64| {
        let state = state ^ state << 13;
        let state = state ^ state >> 7;
        Some(state ^ state << 17)
    };
    std::iter::successors(Some(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1), next)
        .skip(8)
        .map(|state| (state >> 16) as u32)
        .take(len)
}

#[test]
fn what_does_not_wait_needs_no_ticks() {
    let mut seen = Seen::default();
    for seed in 1..=4 {
        let (mut waiting, mut everything) = (Play::new(false), Play::new(true));
        for (step, dice) in sequence(seed, 150).enumerate() {
            waiting.step(dice);
            everything.step(dice);
            let at = format!("seed {seed}, step {step}");
            assert!(waiting.world.said == everything.world.said, "something else was said: {at}");
            assert!(waiting.world.proposed == everything.world.proposed, "something else was proposed: {at}");
            assert!(waiting.shown() == everything.shown(), "a slot is something else: {at}");
            for (node, other) in waiting.world.nodes.iter().zip(&everything.world.nodes) {
                assert!(node.desk.duties == other.desk.duties, "a machine is in another state: {at}");
            }
            seen.add(&mut waiting.world);
            everything.world.said.clear();
            everything.world.proposed.clear();
        }
    }
    let enough = seen.words > 1000 && seen.done > 10 && seen.aborted > 2 && seen.in_sync > 10 && seen.lost > 5;
    assert!(enough, "{seen:?}");
}

/// What happened: the property is worth something.
#[derive(Debug, Default)]
struct Seen {
    words: usize,
    done: usize,
    aborted: usize,
    in_sync: usize,
    lost: usize,
}

impl Seen {
    fn add(&mut self, world: &mut World) {
        self.words += world.said.drain(..).count();
        for (_, command) in world.proposed.drain(..) {
            match command {
                Command::Done { .. } => self.done += 1,
                Command::Abort { .. } => self.aborted += 1,
                Command::InSync { in_sync: true, .. } => self.in_sync += 1,
                Command::InSync { in_sync: false, .. } => self.lost += 1,
                _ => {}
            }
        }
    }
}
