//! What this process takes of the machine, and how much it may take: memory, descriptors, processor time. Linux only; what
//! cannot be read is not there.

use crate::memory::Bounds;
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::time::Duration;

/// Resident memory of this process, in bytes.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The most that this process may take before the system ends it, in bytes: the smallest limit of its control groups and of
/// those above them. Nothing where there is none.
#[must_use]
pub fn memory_limit_bytes() -> Option<u64> {
    Bounds::find(None).group_max()
}

/// Descriptors that are open, and how many may be.
#[must_use]
pub fn descriptors() -> Option<(u64, u64)> {
    // Newer systems say their number as the folder's size; else the one that reads the folder is among them.
    let open = match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64,
        open => open,
    };
    Some((open, descriptors_max().unwrap_or(u64::MAX)))
}

/// How many descriptors may be open; nothing where there is no limit.
#[must_use]
pub fn descriptors_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Processor time of all threads since the start, in user and system mode.
#[must_use]
pub fn processor_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name before it may have spaces and parentheses of its own.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_itself() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        let (before, limit) = descriptors().expect("descriptors");
        let files: Vec<_> = (0..10).map(|_| fs::File::open("/proc/self/stat").expect("a file")).collect();
        let (open, _) = descriptors().expect("descriptors");
        // Other tests of this process open some, too.
        assert!(open >= before.min(3) + files.len() as u64 && open <= limit, "{before} then {open} of {limit}");
        assert!(processor_time().is_some());
    }
}
