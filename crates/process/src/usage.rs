//! What processes and the machine use, from /proc and the process clocks.
//! The process clock has nanoseconds where `/proc/PID/stat` has ticks of 10 ms; both are kept.

use std::fs;
use std::io;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// Ticks per second in /proc; Linux fixes it for user space on every platform this runs on.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time used so far: all threads, user and system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// From the process CPU clock.
    pub clock: Duration,
    /// `utime + stime` of `/proc/PID/stat`: the same time in ticks.
    pub stat: Duration,
}

impl CpuTime {
    /// The sum over these processes.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn of(pids: &[i32]) -> io::Result<Self> {
        pids.iter().try_fold(Self::default(), |sum, &pid| {
            let one = Self::of_one(pid)?;
            Ok(Self { clock: sum.clock + one.clock, stat: sum.stat + one.stat })
        })
    }

    /// What was used since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { clock: self.clock.saturating_sub(earlier.clock), stat: self.stat.saturating_sub(earlier.stat) }
    }

    fn of_one(pid: i32) -> io::Result<Self> {
        let clock = Duration::from(clock_getcpuclockid(Pid::from_raw(pid))?.now()?);
        let [_, utime, stime] = stat_fields(&read(pid, "stat")?).ok_or_else(|| unexpected(pid, "stat"))?;
        Ok(Self { clock, stat: ticks_time(utime + stime) })
    }
}

/// What the whole machine has done since boot, in ticks' precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineTime {
    /// All cores, without idle and stolen time.
    pub busy: Duration,
    /// All cores, waiting for disks included.
    pub idle: Duration,
    /// What the hypervisor gave to others.
    pub stolen: Duration,
}

impl MachineTime {
    /// Reads `/proc/stat`.
    ///
    /// # Errors
    /// It is not there, or not as expected.
    pub fn now() -> io::Result<Self> {
        Self::parse(&fs::read_to_string("/proc/stat")?).ok_or_else(|| io::Error::other("unexpected /proc/stat"))
    }

    /// The share of all cores' time that was not idle: what was stolen was wanted.
    #[must_use]
    pub fn busy_share(self) -> f64 {
        let used = self.busy + self.stolen;
        let all = used + self.idle;
        // Whole numbers, so that what reads as 0.965 is that and nothing beside it.
        if all.is_zero() { 0.0 } else { used.as_nanos() as f64 / all.as_nanos() as f64 }
    }

    /// What was used since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(earlier.busy),
            idle: self.idle.saturating_sub(earlier.idle),
            stolen: self.stolen.saturating_sub(earlier.stolen),
        }
    }

    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
        let [user, nice, system, idle, waiting, irq, softirq, stolen, ..] = ticks[..] else {
            return None;
        };
        let busy = user + nice + system + irq + softirq;
        Some(Self { busy: ticks_time(busy), idle: ticks_time(idle + waiting), stolen: ticks_time(stolen) })
    }
}

/// Memory that a process has in RAM.
///
/// # Errors
/// It is gone.
pub fn resident_bytes(pid: i32) -> io::Result<u64> {
    resident(&read(pid, "status")?).ok_or_else(|| unexpected(pid, "status"))
}

/// Threads of a process.
///
/// # Errors
/// It is gone.
pub fn threads(pid: i32) -> io::Result<u64> {
    number(&read(pid, "status")?, "Threads:", "").ok_or_else(|| unexpected(pid, "status"))
}

/// Descriptors that a process holds. Costs some time per descriptor.
///
/// # Errors
/// It is gone, or somebody else's.
pub fn descriptors(pid: i32) -> io::Result<u64> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64)
}

/// Direct children of a process, in the order of their ids.
///
/// # Errors
/// /proc cannot be listed.
pub fn children(parent: i32) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end between the listing and the reading.
        let Ok(stat) = read(pid, "stat") else {
            continue;
        };
        if stat_fields(&stat).is_some_and(|[ppid, ..]| i32::try_from(ppid) == Ok(parent)) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn read(pid: i32, file: &str) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}"))
}

fn unexpected(pid: i32, file: &str) -> io::Error {
    io::Error::other(format!("unexpected /proc/{pid}/{file}"))
}

fn ticks_time(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

fn resident(status: &str) -> Option<u64> {
    number(status, "VmRSS:", " kB").map(|kib| kib << 10)
}

/// The number of a line, with what stands before and behind it.
fn number(status: &str, name: &str, unit: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(unit)?.trim().parse().ok()
}

/// Parent, utime and stime. The command's name may hold blanks and brackets, so fields are counted from its end.
fn stat_fields(stat: &str) -> Option<[u64; 3]> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse().ok();
    Some([number(1)?, number(11)?, number(12)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_an_awkward_name() {
        let stat = "42 (a) b (c)) S 7 1 1 0 -1 4194304 1 2 3 4 150 25 0 0 20 0 1 0 1";
        assert_eq!(stat_fields(stat), Some([7, 150, 25]));
        assert_eq!(stat_fields("42 (short) S 7"), None);
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t7\n";
        assert_eq!((resident(status), number(status, "Threads:", "")), (Some(2 << 20), Some(7)));
    }

    #[test]
    fn the_machines_line_is_split_into_busy_idle_and_stolen() {
        let time = MachineTime::parse("cpu  1 2 3 1000 50 4 5 7 0 0\ncpu0 9 9 9\n").expect("parse");
        let millis = [time.busy, time.idle, time.stolen].map(|time| time.as_millis());
        assert_eq!(millis, [150, 10_500, 70]);
        assert!(MachineTime::parse("intr 1 2").is_none());
        let later = MachineTime::parse("cpu  31 2 3 1060 50 4 5 17 0 0\n").expect("parse");
        assert_eq!(later.since(time).busy_share().to_string(), "0.4");
        let most = MachineTime {
            busy: Duration::from_millis(1_930),
            idle: Duration::from_millis(70),
            ..MachineTime::default()
        };
        assert_eq!(most.busy_share().to_string(), "0.965");
        assert!(time.since(time).busy_share().abs() < 1e-9, "of no time");
    }

    #[test]
    fn this_process_has_memory_and_descriptors_and_threads() {
        let pid = nix::unistd::getpid().as_raw();
        assert!(resident_bytes(pid).expect("memory") > 100_000);
        assert!(descriptors(pid).expect("descriptors") > 2 && threads(pid).expect("threads") > 0);
    }

    #[test]
    fn clock_and_stat_agree_on_this_process() {
        let pid = [nix::unistd::getpid().as_raw()];
        let before = CpuTime::of(&pid).expect("before");
        let mut spin = 0u64;
        while CpuTime::of(&pid).expect("while").since(before).clock < Duration::from_millis(100) {
            spin = std::hint::black_box(spin.wrapping_mul(31).wrapping_add(1));
        }
        let used = CpuTime::of(&pid).expect("after").since(before);
        let apart = used.clock.abs_diff(used.stat);
        assert!(apart <= Duration::from_millis(20), "clock {:?}, stat {:?}", used.clock, used.stat);
    }
}
