//! How near the process is to the end of its memory, as steps: what a node still takes on depends on the step. Pure, but for
//! the atomics through which one writer tells all readers; a reader pays for one load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// From this share of the memory on nothing new is begun; below the second number it is again. Thousandths.
const NOTHING_NEW: (u64, u64) = (800, 750);
/// The same for all but what gives memory back. What is left over is for what is under way.
const THE_LEAST: (u64, u64) = (900, 850);
/// What may be taken beyond the last step, as a part of the memory: enough to read what gives memory back.
const FLOOR_PART: u64 = 128;

/// How far a node goes in refusing work; each step refuses what the one before it does, and more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// All is served.
    #[default]
    Serve,
    /// What there is goes on; nothing is begun that would stay.
    NothingNew,
    /// Only what gives memory back is taken.
    TheLeast,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Serve, Self::NothingNew, Self::TheLeast];

    /// The step after `self` with so much used. It goes down later than it goes up, so that it does not flutter.
    #[must_use]
    pub fn next(self, memory: Memory) -> Self {
        let share = memory.per_mille();
        let reaches = |(up, down), step| share >= if self >= step { down } else { up };
        match () {
            () if reaches(THE_LEAST, Self::TheLeast) => Self::TheLeast,
            () if reaches(NOTHING_NEW, Self::NothingNew) => Self::NothingNew,
            () => Self::Serve,
        }
    }

    /// The value of a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::NothingNew => "nothing_new",
            Self::TheLeast => "the_least",
        }
    }
}

/// Memory that is used, and the most that may be. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What cannot be given back at once.
    pub used_bytes: u64,
    /// Beyond this the system ends a process, or lets all of them hardly go on.
    pub max_bytes: u64,
}

impl Memory {
    /// The share that is used, in thousandths.
    #[must_use]
    pub fn per_mille(self) -> u64 {
        u64::try_from(u128::from(self.used_bytes) * 1000 / u128::from(self.max_bytes.max(1))).unwrap_or(u64::MAX)
    }

    /// What may be taken beside what is used before [`Step::TheLeast`] is reached.
    fn spare_bytes(self) -> u64 {
        let most = (u128::from(self.max_bytes) * u128::from(THE_LEAST.0) / 1000) as u64;
        most.saturating_sub(self.used_bytes)
    }
}

/// What was measured last; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Pressure(Arc<State>);

#[derive(Debug, Default)]
struct State {
    step: AtomicU8,
    /// How often each step was gone to.
    changes: [AtomicU64; Step::ALL.len()],
    /// How often it was measured.
    turn: AtomicU64,
    used_bytes: AtomicU64,
    max_bytes: AtomicU64,
    spare_bytes: AtomicU64,
}

impl Pressure {
    /// The step of the last measurement; the first before there is one.
    #[must_use]
    pub fn step(&self) -> Step {
        // Relaxed, here and below: each number is read for itself.
        match self.0.step.load(Ordering::Relaxed) {
            0 => Step::Serve,
            1 => Step::NothingNew,
            _ => Step::TheLeast,
        }
    }

    /// How often it was measured; the number of the last measurement.
    #[must_use]
    pub fn turn(&self) -> u64 {
        self.0.turn.load(Ordering::Relaxed)
    }

    /// What may be taken beside what was used at the last measurement before [`Step::TheLeast`] is reached, in bytes; no
    /// bound before there is one.
    #[must_use]
    pub fn spare_bytes(&self) -> u64 {
        match self.turn() {
            0 => u64::MAX,
            _ => self.0.spare_bytes.load(Ordering::Relaxed),
        }
    }

    /// What may be taken once beyond that, for what gives memory back, in bytes.
    #[must_use]
    pub fn floor_bytes(&self) -> u64 {
        self.0.max_bytes.load(Ordering::Relaxed) / FLOOR_PART
    }

    /// The last measurement.
    #[must_use]
    pub fn memory(&self) -> Option<Memory> {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let memory = || Memory { used_bytes: read(&self.0.used_bytes), max_bytes: read(&self.0.max_bytes) };
        (self.turn() > 0).then(memory)
    }

    /// How often each step was gone to.
    #[must_use]
    pub fn changes(&self) -> [u64; Step::ALL.len()] {
        self.0.changes.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Tells all readers of a measurement; gives the steps before and after it. There is one writer.
    pub fn measured(&self, memory: Memory) -> (Step, Step) {
        let before = self.step();
        let after = before.next(memory);
        let state = &*self.0;
        state.used_bytes.store(memory.used_bytes, Ordering::Relaxed);
        state.spare_bytes.store(memory.spare_bytes(), Ordering::Relaxed);
        state.max_bytes.store(memory.max_bytes, Ordering::Relaxed);
        if before != after {
            state.step.store(after as u8, Ordering::Relaxed);
            state.changes[after as usize].fetch_add(1, Ordering::Relaxed);
        }
        state.turn.fetch_add(1, Ordering::Release);
        (before, after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_1000(used_bytes: u64) -> Memory {
        Memory { used_bytes, max_bytes: 1000 }
    }

    #[test]
    fn it_goes_down_later_than_up() {
        use Step::{NothingNew, Serve, TheLeast};
        // What is used, and the step after it.
        let walk = [
            (0, Serve),
            (799, Serve),
            (800, NothingNew),
            (750, NothingNew),
            (749, Serve),
            (899, NothingNew),
            (900, TheLeast),
            (850, TheLeast),
            (849, NothingNew),
            (760, NothingNew),
            (2000, TheLeast),
            (10, Serve),
            (950, TheLeast),
        ];
        let pressure = Pressure::default();
        assert_eq!((pressure.step(), pressure.memory(), pressure.spare_bytes()), (Serve, None, u64::MAX));
        let mut before = Serve;
        for (used, step) in walk {
            assert_eq!(pressure.measured(of_1000(used)), (before, step), "{used}");
            assert_eq!((pressure.step(), pressure.memory()), (step, Some(of_1000(used))));
            before = step;
        }
        assert_eq!(pressure.changes(), [2, 3, 3]);
    }

    /// Whatever came before: the step is never further than what is used, and more used is never less of a step.
    #[test]
    fn every_step_follows_from_what_is_used() {
        for before in Step::ALL {
            let steps: Vec<Step> = (0..=1100).map(|used| before.next(of_1000(used))).collect();
            assert!(steps.is_sorted(), "{before:?}");
            for (used, step) in steps.into_iter().enumerate() {
                let (least, most) = (Step::Serve.next(of_1000(used as u64)), Step::TheLeast.next(of_1000(used as u64)));
                assert!(least <= step && step <= most, "{before:?} {used}");
                assert_eq!(step.next(of_1000(used as u64)), step, "the same again changes nothing");
            }
        }
    }

    #[test]
    fn what_is_spare_ends_where_the_last_step_begins() {
        let pressure = Pressure::default();
        for (used, spare) in [(0, 900), (500, 400), (890, 10), (900, 0), (5000, 0)] {
            pressure.measured(of_1000(used));
            assert_eq!((pressure.spare_bytes(), pressure.floor_bytes()), (spare, 7), "{used}");
        }
        let all = Memory { used_bytes: u64::MAX, max_bytes: u64::MAX };
        assert_eq!((all.per_mille(), Step::Serve.next(all)), (1000, Step::TheLeast));
        assert_eq!(Memory { used_bytes: 1, max_bytes: 0 }.per_mille(), 1000);
    }
}
