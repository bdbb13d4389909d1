//! Measures the memory of this process for as long as it is kept, and says once for each step what an operator can do. On a
//! thread of its own: it is needed most when all others have too much to do.

use crate::memory::Bounds;
use crate::pressure::{Memory, Pressure, Step};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Time between two measurements. What comes in meanwhile is bounded by [`Pressure::spare_bytes`].
const EVERY: Duration = Duration::from_millis(100);
/// The same while less than half of the memory is used.
const EVERY_AT_EASE: Duration = Duration::from_millis(500);
/// The bounds are looked for anew: groups change, and processes are moved into them.
const FIND_EVERY: Duration = Duration::from_secs(1);

/// Measures until it is dropped.
#[derive(Debug)]
pub struct Watching {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Begins to measure; the process alone may take `own_max` bytes, or else what the machine has. `give_back` gives the system
/// what the process does not use any more: before a step is gone up, and from time to time until it is gone down.
///
/// # Errors
/// There is no further thread.
pub fn watch(own_max: Option<u64>, pressure: Pressure, give_back: fn()) -> io::Result<Watching> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let run = move || {
        let (mut bounds, mut found) = (Bounds::find(own_max), Instant::now());
        tell_unclear(&bounds);
        while !told.load(Ordering::Acquire) {
            let is_due = found.elapsed() >= FIND_EVERY;
            if is_due {
                (bounds, found) = (Bounds::find(own_max), Instant::now());
            }
            let step = pressure.step();
            let read = bounds.read().and_then(|memory| {
                if step.next(memory) > step || (is_due && step > Step::Serve) {
                    give_back();
                    return bounds.read();
                }
                Some(memory)
            });
            if let Some(memory) = read {
                let (before, after) = pressure.measured(memory);
                tell(before, after, memory);
            }
            let is_at_ease = read.is_none_or(|memory| memory.per_mille() < 500);
            thread::park_timeout(if is_at_ease { EVERY_AT_EASE } else { EVERY });
        }
    };
    // Ends when it is told to, at the latest with the process; nothing waits for what it measures.
    let thread = thread::Builder::new().name("memory".to_owned()).spawn(run)?;
    Ok(Watching { stop, thread: Some(thread) })
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic in it was told by then, and changes nothing here.
            let _ = thread.join();
        }
    }
}

/// At the beginning, once.
fn tell_unclear(bounds: &Bounds) {
    if let Some(group) = bounds.unclear() {
        tracing::warn!(
            group = %group.display(),
            "memory.stat of a control group says nothing of files: what this process uses alone is compared with its limit"
        );
    }
}

/// Once for each change.
fn tell(before: Step, after: Step, memory: Memory) {
    let (used_mib, max_mib) = (memory.used_bytes >> 20, memory.max_bytes >> 20);
    match after {
        _ if before == after => {}
        Step::Serve => tracing::info!(used_mib, max_mib, "memory suffices again: everything is served"),
        Step::NothingNew if before > after => {
            tracing::warn!(
                used_mib,
                max_mib,
                "memory is short: requests are served again, new sessions and streams are not"
            );
        }
        Step::NothingNew => tracing::warn!(
            used_mib,
            max_mib,
            "memory is short: new sessions and streams are refused. Give the node more (the limit of its control group, \
             memory_bytes_max), or less to hold (connections_max, limits.sessions_max, more nodes)"
        ),
        Step::TheLeast => tracing::error!(
            used_mib,
            max_mib,
            "memory is nearly used up: connections and requests are refused, but for what gives memory back. Give the node \
             more (the limit of its control group, memory_bytes_max), or less to hold (connections_max, \
             requests_in_flight_max, limits.sessions_max, more nodes)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    static GIVEN_BACK: AtomicU64 = AtomicU64::new(0);

    fn given_back() {
        GIVEN_BACK.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn it_measures_at_once_and_ends_when_it_is_dropped() {
        let pressure = Pressure::default();
        // Less than any process takes.
        let watching = watch(Some(1000), pressure.clone(), given_back).expect("a thread");
        let begun = Instant::now();
        while pressure.step() != Step::TheLeast {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", pressure.memory());
            thread::yield_now();
        }
        drop(watching);
        let last = pressure.memory().expect("measured");
        assert_eq!(last.max_bytes, 1000);
        assert!(GIVEN_BACK.load(Ordering::Relaxed) > 0, "that is tried before anything is refused");
        pressure.measured(Memory { used_bytes: 0, max_bytes: 1000 });
        assert_eq!(pressure.step(), Step::Serve, "nobody measures any more");
    }
}
