//! The trace of a run: a hash over all of its lines, and the last of them to show.

use std::collections::VecDeque;
use std::fmt;

use crate::clock::Micros;

/// Lines kept for a report.
const LINES_MAX: usize = 400;

pub(crate) struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    print: bool,
    line: String,
}

impl Trace {
    pub(crate) fn new(print: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, lines: VecDeque::new(), print, line: String::new() }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, at: Micros, text: fmt::Arguments<'_>) {
        use fmt::Write as _;
        self.line.clear();
        // Writing to a string cannot fail.
        let _ = write!(self.line, "{:>4}.{:06} {text}", at / 1_000_000, at % 1_000_000);
        for byte in self.line.bytes() {
            // FNV-1a: enough to tell two traces apart, and the same on every machine.
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.print {
            println!("{}", self.line);
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(self.line.clone());
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn last(&self, count: usize) -> Vec<String> {
        self.lines.iter().skip(self.lines.len().saturating_sub(count)).cloned().collect()
    }
}
