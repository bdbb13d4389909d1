//! CPU time of other processes: all threads, user and system.
//! The process clock has nanoseconds where `/proc/PID/stat` has ticks of 10 ms; both are kept.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// Ticks per second of `/proc/PID/stat`; Linux fixes it for user space on every platform this runs on.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time used so far.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct CpuTime {
    /// From the process CPU clock.
    pub(crate) clock: Duration,
    /// `utime + stime` of `/proc/PID/stat`: the same time in ticks.
    pub(crate) stat: Duration,
}

impl CpuTime {
    /// The sum over these processes.
    pub(crate) fn of(pids: &[i32]) -> Result<Self> {
        pids.iter().try_fold(Self::default(), |sum, &pid| {
            let one = Self::of_one(pid).with_context(|| format!("CPU time of process {pid}"))?;
            Ok(Self { clock: sum.clock + one.clock, stat: sum.stat + one.stat })
        })
    }

    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { clock: self.clock.saturating_sub(earlier.clock), stat: self.stat.saturating_sub(earlier.stat) }
    }

    fn of_one(pid: i32) -> Result<Self> {
        let clock = Duration::from(clock_getcpuclockid(Pid::from_raw(pid))?.now()?);
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let [_, utime, stime] = stat_fields(&stat).context("unexpected /proc/PID/stat")?;
        let stat = ticks_time(utime + stime);
        Ok(Self { clock, stat })
    }
}

/// What the whole machine was busy with since boot, in ticks' precision.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct MachineTime {
    /// All cores, without idle and stolen time.
    pub(crate) busy: Duration,
    /// What the hypervisor gave to others.
    pub(crate) stolen: Duration,
}

impl MachineTime {
    /// Reads `/proc/stat`.
    pub(crate) fn now() -> Result<Self> {
        Self::parse(&fs::read_to_string("/proc/stat")?).context("unexpected /proc/stat")
    }

    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { busy: self.busy.saturating_sub(earlier.busy), stolen: self.stolen.saturating_sub(earlier.stolen) }
    }

    fn parse(stat: &str) -> Option<Self> {
        let ticks: Vec<u64> = stat
            .lines()
            .next()?
            .strip_prefix("cpu ")?
            .split_ascii_whitespace()
            .map_while(|field| field.parse().ok())
            .collect();
        let [user, nice, system, _idle, _iowait, irq, softirq, stolen, ..] = ticks[..] else {
            return None;
        };
        Some(Self { busy: ticks_time(user + nice + system + irq + softirq), stolen: ticks_time(stolen) })
    }
}

fn ticks_time(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// Direct children of a process, in the order of their ids.
pub(crate) fn children(parent: i32) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end between the listing and the reading.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        if stat_fields(&stat).is_some_and(|[ppid, ..]| i32::try_from(ppid) == Ok(parent)) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    Ok(found)
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
    }

    #[test]
    fn the_machines_line_is_split_into_busy_and_stolen() {
        let time = MachineTime::parse("cpu  1 2 3 1000 50 4 5 7 0 0\ncpu0 9 9 9\n").expect("parse");
        assert_eq!(time.busy, Duration::from_millis(150));
        assert_eq!(time.stolen, Duration::from_millis(70));
        assert!(MachineTime::parse("intr 1 2").is_none());
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
