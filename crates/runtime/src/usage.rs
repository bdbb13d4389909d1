//! What this process takes of the machine, and how much it may take: memory, descriptors, processor time. Linux only; what
//! cannot be read is not there.

use rustix::process::{Resource, getrlimit};
use std::fs;
use std::time::Duration;

/// Where a control group's limit on memory stands: version 2, then version 1.
const MEMORY_LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Resident memory of this process, in bytes.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The most that this process may take before the system ends it, in bytes: the smallest limit of its control groups.
/// Nothing where there is none.
#[must_use]
pub fn memory_limit_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().filter_map(limit_file);
    // In a container the process's own group is the root of what it sees.
    let limits = own.chain(MEMORY_LIMITS.map(str::to_owned)).filter_map(|file| fs::read_to_string(file).ok());
    // "No limit" is "max", or a number near that of all addresses.
    limits.filter_map(|text| text.trim().parse().ok()).filter(|bytes| *bytes < 1 << 60).min()
}

/// The file with the limit of a group, given its line in `/proc/self/cgroup` (cgroups(7)).
fn limit_file(line: &str) -> Option<String> {
    let mut parts = line.splitn(3, ':').skip(1);
    match (parts.next()?, parts.next()?) {
        ("", path) => Some(format!("/sys/fs/cgroup{path}/memory.max")),
        (controllers, path) if controllers.split(',').any(|one| one == "memory") => {
            Some(format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"))
        }
        _ => None,
    }
}

/// Descriptors that are open, and how many may be.
#[must_use]
pub fn descriptors() -> Option<(u64, u64)> {
    // The one that reads the folder is among them.
    let open = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64;
    Some((open, getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)))
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

    #[test]
    fn the_files_of_both_versions_are_found() {
        let table = [
            ("0::/kubepods/x", Some("/sys/fs/cgroup/kubepods/x/memory.max")),
            ("9:memory:/docker/y", Some("/sys/fs/cgroup/memory/docker/y/memory.limit_in_bytes")),
            ("3:cpu,cpuacct:/", None),
            ("", None),
        ];
        for (line, file) in table {
            assert_eq!(limit_file(line).as_deref(), file, "{line}");
        }
    }
}
