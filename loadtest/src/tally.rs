//! What was offered and what became of it, by operation and by the second in which it was due.
//! Additions only: they may be made in any order and merged from many workers.

use std::collections::HashMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::outcome::{OUTCOMES, Outcome};
use crate::proto;

/// Two digits: a latency is known to 1 %.
const DIGITS: u8 = 2;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// A session and its stream, until both are there.
    Open,
    Call,
    List,
    /// Subscribing, and leaving off.
    Subscribe,
    /// The call that makes the upstream announce something.
    Notify,
    /// A notice that reached a stream, from when the call was due.
    Deliver,
    /// A notice beyond those that were announced: after a gap the gateway says that something may have changed.
    Extra,
    /// A stream that broke, until it is open again.
    Reopen,
    /// A session that was not served, until it is served again.
    Recover,
    /// A session that is asked at the end whether it is there.
    Sweep,
    /// How late the generator itself was: from when something was due until it began to send it.
    Late,
    /// A session that is ended while streams are held, until it has ended.
    Leave,
}

impl Operation {
    /// All, in the order of the wire.
    pub(crate) const ALL: [Operation; 12] = [
        Operation::Open,
        Operation::Call,
        Operation::List,
        Operation::Subscribe,
        Operation::Notify,
        Operation::Deliver,
        Operation::Extra,
        Operation::Reopen,
        Operation::Recover,
        Operation::Sweep,
        Operation::Late,
        Operation::Leave,
    ];

    /// As reports call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::Open => "open",
            Operation::Call => "call",
            Operation::List => "list",
            Operation::Subscribe => "subscribe",
            Operation::Notify => "notify",
            Operation::Deliver => "deliver",
            Operation::Extra => "extra",
            Operation::Reopen => "reopen",
            Operation::Recover => "recover",
            Operation::Sweep => "sweep",
            Operation::Late => "late",
            Operation::Leave => "leave",
        }
    }
}

/// Counts and times of one operation.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) offered: u64,
    pub(crate) outcomes: [u64; OUTCOMES],
    /// Microseconds from when it was due, of what ended well.
    pub(crate) latency: Histogram<u64>,
}

impl Default for Cell {
    fn default() -> Cell {
        // It grows as needed; two digits are always possible.
        let latency = Histogram::new(DIGITS).unwrap_or_else(|_| unreachable!("two digits are possible"));
        Cell { offered: 0, outcomes: [0; OUTCOMES], latency }
    }
}

impl Cell {
    pub(crate) fn end(&mut self, outcome: Outcome, took: Duration) {
        self.outcomes[outcome as usize] += 1;
        if outcome == Outcome::Ok {
            self.time(took);
        }
    }

    fn time(&mut self, took: Duration) {
        // A histogram that grows takes every number.
        let _ = self.latency.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX >> 1));
    }

    pub(crate) fn add(&mut self, other: &Cell) {
        self.offered += other.offered;
        for (mine, more) in self.outcomes.iter_mut().zip(other.outcomes) {
            *mine += more;
        }
        let _ = self.latency.add(&other.latency);
    }

    pub(crate) fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// What ended, well or not, and was sent.
    pub(crate) fn ended(&self) -> u64 {
        self.outcomes.iter().sum::<u64>() - self.of(Outcome::Unsent)
    }

    /// Milliseconds at a quantile; 0 when there is none.
    pub(crate) fn ms(&self, quantile: f64) -> f64 {
        if self.latency.is_empty() { 0.0 } else { self.latency.value_at_quantile(quantile) as f64 / 1e3 }
    }

    pub(crate) fn max_ms(&self) -> f64 {
        if self.latency.is_empty() { 0.0 } else { self.latency.max() as f64 / 1e3 }
    }

    fn to_wire(&self, second: u32, operation: Operation) -> proto::Cell {
        let recorded = self.latency.iter_recorded();
        let (latency_us, latency_counts) =
            recorded.map(|step| (step.value_iterated_to(), step.count_since_last_iteration())).unzip();
        let outcomes = self.outcomes.to_vec();
        proto::Cell { second, operation: operation as u32, offered: self.offered, outcomes, latency_us, latency_counts }
    }

    fn from_wire(wire: &proto::Cell) -> Cell {
        let mut cell = Cell { offered: wire.offered, ..Cell::default() };
        for (mine, count) in cell.outcomes.iter_mut().zip(&wire.outcomes) {
            *mine = *count;
        }
        for (value, count) in wire.latency_us.iter().zip(&wire.latency_counts) {
            let _ = cell.latency.record_n(*value, *count);
        }
        cell
    }
}

/// Cells by second and operation.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    cells: HashMap<(u32, Operation), Cell>,
}

impl Tally {
    pub(crate) fn at(&mut self, second: u32, operation: Operation) -> &mut Cell {
        self.cells.entry((second, operation)).or_default()
    }

    /// Everything since the last time, for the coordinator.
    pub(crate) fn take(&mut self) -> Vec<proto::Cell> {
        self.cells.drain().map(|((second, operation), cell)| cell.to_wire(second, operation)).collect()
    }

    /// Adds what a worker sent. An operation that is not known is left out.
    pub(crate) fn put(&mut self, wire: &proto::Cell) {
        let operation = usize::try_from(wire.operation).ok().and_then(|index| Operation::ALL.get(index));
        if let Some(operation) = operation {
            self.at(wire.second, *operation).add(&Cell::from_wire(wire));
        }
    }

    /// The sum of one operation over some seconds.
    pub(crate) fn sum(&self, operation: Operation, seconds: impl Fn(u32) -> bool) -> Cell {
        let mut sum = Cell::default();
        for ((second, of), cell) in &self.cells {
            if *of == operation && seconds(*second) {
                sum.add(cell);
            }
        }
        sum
    }

    /// One cell, if anything was counted there.
    pub(crate) fn get(&self, second: u32, operation: Operation) -> Option<&Cell> {
        self.cells.get(&(second, operation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_send_in_pieces_is_what_they_saw() {
        let (mut whole, mut merged) = (Cell::default(), Tally::default());
        for worker in 0..3_u64 {
            let mut tally = Tally::default();
            for number in 0..1_000_u64 {
                let took = Duration::from_micros(10 + number * number * (worker + 1));
                for cell in [tally.at(5, Operation::Call), &mut whole] {
                    cell.offered += 1;
                    cell.end(if number % 10 == 0 { Outcome::Refused } else { Outcome::Ok }, took);
                }
                if number % 300 == 0 {
                    tally.take().iter().for_each(|cell| merged.put(cell));
                }
            }
            tally.take().iter().for_each(|cell| merged.put(cell));
            assert!(tally.take().is_empty(), "nothing is sent twice");
        }
        let got = merged.sum(Operation::Call, |second| second == 5);
        assert_eq!((got.offered, got.outcomes), (whole.offered, whole.outcomes));
        assert_eq!(got.latency, whole.latency, "bucket by bucket");
        assert_eq!(got.ended(), 3_000);
        assert_eq!(merged.sum(Operation::Call, |second| second == 6).offered, 0);
        assert_eq!(merged.sum(Operation::List, |_| true).offered, 0);
    }

    #[test]
    fn the_order_is_that_of_the_wire() {
        for (index, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, index);
        }
        let mut tally = Tally::default();
        tally.put(&proto::Cell { operation: 99, offered: 1, ..Default::default() });
        assert!(tally.cells.is_empty());
    }

    #[test]
    fn unsent_is_not_ended_and_failures_have_no_latency() {
        let mut cell = Cell::default();
        cell.end(Outcome::Unsent, Duration::ZERO);
        cell.end(Outcome::Error, Duration::from_secs(5));
        assert_eq!((cell.ended(), cell.of(Outcome::Unsent)), (1, 1));
        assert!(cell.max_ms() < f64::EPSILON && cell.ms(0.99) < f64::EPSILON);
    }
}
