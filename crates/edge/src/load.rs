//! How many calls may be in flight, by how long the node's own work waits for its turn: a task that has next to nothing to do
//! measures that. Upstreams that take their time do not make it wait, so they lower nothing.
//!
//! While it waits for too long, and all the same while it has not come to its turn at all, the bound falls: first to what is in
//! flight, then by a quarter each time. While it does not, and calls are refused, the bound rises by an eighth. After a minute
//! without a long wait there is none.

use parking_lot::Mutex;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

/// Time between two measurements.
const EVERY: Duration = Duration::from_millis(100);
/// The same while no call comes.
const EVERY_IDLE: Duration = Duration::from_millis(500);
/// Turns of the runtime that a measurement takes: as many as a call of a large message does.
const TURNS: u32 = 16;
/// So many calls are always let in: the node must go on, and a wait need not be their doing.
const LEAST: usize = 4;
/// Without a long wait for this long, what was learnt is forgotten.
const CALM_MS: u64 = 60_000;

/// The bound and what it is made of; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Load(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    start: Instant,
    /// A wait can be too long.
    is_on: bool,
    calls: AtomicUsize,
    /// From how many calls on others are refused.
    bound: AtomicUsize,
    /// From this millisecond on the measurement under way has waited for too long.
    late_at_ms: AtomicU64,
    wait_us: AtomicU64,
    refused: AtomicBool,
    governor: Mutex<Governor>,
}

impl Load {
    /// No wait above this one is accepted, and no wait is too long where there is none.
    pub(crate) fn new(wait_max: Option<Duration>) -> Self {
        Self(Arc::new(Shared {
            start: Instant::now(),
            is_on: wait_max.is_some(),
            calls: AtomicUsize::new(0),
            bound: AtomicUsize::new(usize::MAX),
            late_at_ms: AtomicU64::new(u64::MAX),
            wait_us: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            governor: Mutex::new(Governor::new(wait_max)),
        }))
    }

    /// Whether calls are counted at all.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_on
    }

    /// A call's place among those in flight, or nothing where there is none.
    pub(crate) fn enter(&self) -> Option<Place> {
        let shared = &*self.0;
        // Relaxed, here and below: each number is read for itself.
        let before = shared.calls.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.clone());
        if before >= self.bound() {
            shared.refused.store(true, Ordering::Relaxed);
            return None;
        }
        Some(place)
    }

    /// Calls in flight.
    pub(crate) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// Calls in flight from which on others are refused.
    pub(crate) fn bound(&self) -> usize {
        let shared = &*self.0;
        // Asked before the clock is: commonly nothing is late, and then a measurement says so ten times a second.
        if shared.late_at_ms.load(Ordering::Relaxed) != u64::MAX {
            let now_ms = self.now_ms();
            if now_ms >= shared.late_at_ms.load(Ordering::Relaxed) {
                // Whoever has it does the same.
                if let Some(mut governor) = shared.governor.try_lock() {
                    let told = governor.looks(now_ms, self.calls());
                    self.publish(&governor, told);
                }
            }
        }
        shared.bound.load(Ordering::Relaxed)
    }

    /// How long the last measurement had to wait.
    pub(crate) fn wait(&self) -> Duration {
        Duration::from_micros(self.0.wait_us.load(Ordering::Relaxed))
    }

    /// Measures for as long as it is polled; not at all where no wait is too long.
    pub(crate) async fn measure(self) {
        if !self.is_on() {
            return;
        }
        let mut every = EVERY;
        loop {
            let due = Instant::now() + every;
            {
                let mut governor = self.0.governor.lock();
                governor.begins(self.ms(due));
                self.publish(&governor, None);
            }
            tokio::time::sleep(every).await;
            turns(TURNS).await;
            let wait = Instant::now().saturating_duration_since(due);
            self.0.wait_us.store(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
            let refused = self.0.refused.swap(false, Ordering::Relaxed);
            let mut governor = self.0.governor.lock();
            let told = governor.ends(self.now_ms(), self.calls(), refused);
            self.publish(&governor, told);
            every = if self.calls() == 0 && !refused && governor.bound == usize::MAX { EVERY_IDLE } else { EVERY };
        }
    }

    fn publish(&self, governor: &Governor, told: Option<Told>) {
        self.0.bound.store(governor.bound, Ordering::Relaxed);
        self.0.late_at_ms.store(governor.late_at_ms, Ordering::Relaxed);
        match told {
            None => {}
            Some(Told::Begins) => tracing::warn!(
                calls = governor.bound,
                "the node has more to do than it can: calls beyond those in flight are refused. Give it more processor time, \
                 or add a node"
            ),
            Some(Told::Ends) => tracing::info!("the node keeps up again: calls are not refused any more"),
        }
    }

    fn now_ms(&self) -> u64 {
        self.ms(Instant::now())
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.0.start).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Goes to the end of the runtime's queue so many times.
async fn turns(mut left: u32) {
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        // Whoever wakes itself goes behind all that can run now.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A call in flight; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Load);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is worth a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Begins,
    Ends,
}

/// Moves the bound. Pure; times are milliseconds since any beginning.
#[derive(Debug)]
struct Governor {
    wait_max_ms: Option<u64>,
    /// `usize::MAX`: there is none.
    bound: usize,
    due_ms: u64,
    /// When the measurement under way lowers the bound, or does so once more.
    late_at_ms: u64,
    /// The last long wait.
    late_ms: u64,
}

impl Governor {
    fn new(wait_max: Option<Duration>) -> Self {
        let wait_max_ms = wait_max.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        Self { wait_max_ms, bound: usize::MAX, due_ms: 0, late_at_ms: u64::MAX, late_ms: 0 }
    }

    /// A measurement begins that has its turn at `due_ms`, if nothing waits.
    fn begins(&mut self, due_ms: u64) {
        self.due_ms = due_ms;
        self.late_at_ms = self.wait_max_ms.map_or(u64::MAX, |max| due_ms.saturating_add(max));
    }

    /// It is under way.
    fn looks(&mut self, now_ms: u64, calls: usize) -> Option<Told> {
        let wait_max_ms = self.wait_max_ms.filter(|_| now_ms >= self.late_at_ms)?;
        (self.late_at_ms, self.late_ms) = (now_ms.saturating_add(wait_max_ms.max(1)), now_ms);
        let was_free = self.bound == usize::MAX;
        let less = if calls < self.bound { calls } else { self.bound - self.bound / 4 };
        self.bound = less.max(LEAST);
        was_free.then_some(Told::Begins)
    }

    /// It ends.
    fn ends(&mut self, now_ms: u64, calls: usize, refused: bool) -> Option<Told> {
        let told = self.looks(now_ms, calls);
        let is_late = self.wait_max_ms.is_some_and(|max| now_ms.saturating_sub(self.due_ms) >= max);
        if is_late || self.bound == usize::MAX {
            return told;
        }
        if now_ms.saturating_sub(self.late_ms) >= CALM_MS {
            self.bound = usize::MAX;
            return Some(Told::Ends);
        }
        if refused {
            self.bound = self.bound.saturating_add(self.bound / 8 + 1);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_MS: u64 = 150;

    fn governor() -> Governor {
        Governor::new(Some(Duration::from_millis(MAX_MS)))
    }

    /// Measurements one after the other, each with so long a wait; gives the time after them.
    fn measures(governor: &mut Governor, from_ms: u64, waits: &[u64], calls: usize, refused: bool) -> u64 {
        waits.iter().fold(from_ms, |now_ms, wait_ms| {
            governor.begins(now_ms + 100);
            let end_ms = now_ms + 100 + wait_ms;
            governor.ends(end_ms, calls, refused);
            end_ms
        })
    }

    #[test]
    fn a_node_that_is_not_late_never_refuses() {
        let mut governor = governor();
        measures(&mut governor, 0, &[0, 95, MAX_MS - 1, 100], 1_000_000, false);
        assert_eq!(governor.bound, usize::MAX);
        let load = Load::new(Some(Duration::from_secs(3600)));
        let places: Vec<_> = (0..10_000).map_while(|_| load.enter()).collect();
        assert_eq!((places.len(), load.calls()), (10_000, 10_000));
        drop(places);
        assert_eq!(load.calls(), 0);
        let mut without = Governor::new(None);
        measures(&mut without, 0, &[60_000], 9, true);
        assert_eq!(without.bound, usize::MAX, "no wait is too long");
    }

    #[test]
    fn late_it_falls_to_what_there_is_and_then_by_quarters_but_never_to_nothing() {
        let mut governor = governor();
        governor.begins(100);
        assert_eq!(governor.ends(100 + MAX_MS, 100, false), Some(Told::Begins));
        assert_eq!(governor.bound, 100);
        measures(&mut governor, 1000, &[MAX_MS], 100, true);
        assert_eq!(governor.bound, 75);
        measures(&mut governor, 2000, &[MAX_MS], 40, true);
        assert_eq!(governor.bound, 40, "fewer are there");
        measures(&mut governor, 3000, &[1000; 30], 40, true);
        assert_eq!(governor.bound, LEAST);
    }

    #[test]
    fn it_rises_while_calls_are_refused_and_is_forgotten_after_a_calm_minute() {
        let mut governor = governor();
        let late_ms = measures(&mut governor, 0, &[MAX_MS], 80, false);
        let now_ms = measures(&mut governor, late_ms, &[0; 5], 80, false);
        assert_eq!(governor.bound, 80, "nobody needs more");
        let now_ms = measures(&mut governor, now_ms, &[0, 0], 80, true);
        assert_eq!(governor.bound, 80 + 11 + 12);
        assert!(now_ms < late_ms + CALM_MS - 1);
        governor.begins(late_ms + CALM_MS - 1);
        assert_eq!(governor.ends(late_ms + CALM_MS - 1, 80, false), None);
        governor.begins(late_ms + CALM_MS);
        assert_eq!(governor.ends(late_ms + CALM_MS, 80, true), Some(Told::Ends));
        assert_eq!(governor.bound, usize::MAX);
        measures(&mut governor, late_ms + 2 * CALM_MS, &[MAX_MS], 20, true);
        assert_eq!(governor.bound, 20, "and it falls anew");
    }

    #[test]
    fn a_measurement_that_is_stuck_counts_with_its_age() {
        let mut governor = governor();
        governor.begins(100);
        assert_eq!(governor.looks(100 + MAX_MS - 1, 64), None);
        assert_eq!(governor.bound, usize::MAX);
        assert_eq!(governor.looks(100 + MAX_MS, 64), Some(Told::Begins));
        assert_eq!((governor.bound, governor.looks(100 + 2 * MAX_MS - 1, 64)), (64, None));
        governor.looks(100 + 2 * MAX_MS, 64);
        assert_eq!(governor.bound, 48, "once for each time that is too long");
        governor.ends(100 + 2 * MAX_MS + 1, 48, true);
        assert_eq!(governor.bound, 48, "its end is not another wait, nor does it raise anything");
        // Those who come in see it, though the measurement itself does not get its turn.
        let load = Load::new(Some(Duration::ZERO));
        let mut governor = load.0.governor.lock();
        governor.begins(0);
        load.publish(&governor, None);
        drop(governor);
        let places: Vec<_> = (0..100).map_while(|_| load.enter()).collect();
        assert_eq!(places.len(), LEAST);
    }

    #[tokio::test]
    async fn a_queue_is_waited_for_at_every_turn() {
        let load = Load::new(Some(Duration::from_millis(1)));
        let measuring = tokio::spawn(load.clone().measure());
        let places: Vec<_> = (0..20).filter_map(|_| load.enter()).collect();
        assert_eq!(places.len(), 20);
        // Whatever is to run has to wait for a millisecond at each turn.
        let busy = tokio::spawn(async {
            loop {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(1) {}
                turns(1).await;
            }
        });
        while load.wait() < Duration::from_millis(u64::from(TURNS)) {
            tokio::task::yield_now().await;
        }
        assert!(load.bound() <= 20 && load.enter().is_none());
        busy.abort();
        measuring.abort();
    }
}
