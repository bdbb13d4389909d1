//! What a process writes to stderr becomes log lines: each of bounded length, so many per second, the rest counted.

use enfilade_mcp::line::{Decoded, Decoder};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::process::ChildStderr;

/// Longest line that is logged, in bytes.
const LINE_BYTES_MAX: usize = 2048;
/// Lines per window that are logged.
const LINES_MAX: u32 = 100;
/// The window.
const WINDOW: Duration = Duration::from_secs(5);

/// Reads until the process closes its stderr.
pub(crate) async fn log(mut stderr: ChildStderr, upstream: Arc<str>) {
    let mut buffer = vec![0; 4096];
    let mut lines = Decoder::new(LINE_BYTES_MAX);
    let mut limit = Limit { since: Instant::now(), lines: 0, suppressed: 0 };
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        lines.push(&buffer[..read]);
        while let Some(line) = lines.next() {
            let (Decoded::Message(line) | Decoded::TooLong { head: line, .. }) = line;
            match limit.admit(Instant::now()) {
                Some(0) => {}
                Some(suppressed) => tracing::warn!(%upstream, suppressed, "lines of the process were not logged"),
                None => continue,
            }
            let line = &line[..line.len().min(LINE_BYTES_MAX)];
            tracing::info!(%upstream, "{}", String::from_utf8_lossy(line).escape_debug());
        }
    }
}

/// So many lines per window.
struct Limit {
    since: Instant,
    lines: u32,
    suppressed: u64,
}

impl Limit {
    /// Whether a line is logged; if so, how many before it were not.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.since) >= WINDOW {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines >= LINES_MAX {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_it_leaves_out() {
        let start = Instant::now();
        let mut limit = Limit { since: start, lines: 0, suppressed: 0 };
        assert!((0..LINES_MAX).all(|_| limit.admit(start) == Some(0)));
        assert_eq!((limit.admit(start), limit.admit(start)), (None, None));
        assert_eq!(limit.admit(start + WINDOW), Some(2));
        assert_eq!(limit.admit(start + WINDOW), Some(0));
    }
}
