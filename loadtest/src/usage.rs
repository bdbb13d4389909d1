//! Memory and CPU of processes, and how busy the machine is, from /proc.

use std::fs;
use std::time::Duration;

/// Ticks per second in /proc; Linux fixes it for user space on every platform this runs on.
const TICKS_PER_SECOND: u64 = 100;

/// What a process has and has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) memory_bytes: u64,
    pub(crate) cpu: Duration,
    pub(crate) threads: u64,
}

impl Usage {
    /// Of a process; nothing when it is gone.
    pub(crate) fn of(pid: i32) -> Option<Usage> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let kilobytes = number(&status, "VmRSS:")?;
        Some(Usage { memory_bytes: kilobytes << 10, cpu: cpu(&stat)?, threads: number(&status, "Threads:")? })
    }

    /// Of this process.
    pub(crate) fn own() -> Usage {
        i32::try_from(std::process::id()).ok().and_then(Usage::of).unwrap_or_default()
    }
}

/// Descriptors that a process holds; 0 when it is gone. Costs some time per descriptor.
pub(crate) fn descriptors(pid: i32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |all| all.count() as u64)
}

/// What all cores have done since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    busy: u64,
    idle: u64,
}

impl Machine {
    pub(crate) fn now() -> Machine {
        fs::read_to_string("/proc/stat").ok().and_then(|text| Machine::parse(&text)).unwrap_or_default()
    }

    /// The share of all cores that was busy since then.
    pub(crate) fn busy_since(self, then: Machine) -> f64 {
        let (busy, idle) = (self.busy.saturating_sub(then.busy), self.idle.saturating_sub(then.idle));
        if busy + idle == 0 { 0.0 } else { busy as f64 / (busy + idle) as f64 }
    }

    fn parse(text: &str) -> Option<Machine> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
        let [user, nice, system, idle, waiting, irq, softirq, stolen, ..] = ticks[..] else { return None };
        Some(Machine { busy: user + nice + system + irq + softirq + stolen, idle: idle + waiting })
    }
}

/// The number of a line, which may have a unit behind it.
fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The command's name may hold blanks and brackets, so fields are counted from its end.
fn cpu(stat: &str) -> Option<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_are_found() {
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t7\n";
        assert_eq!((number(status, "VmRSS:"), number(status, "Threads:")), (Some(2_048), Some(7)));
        assert_eq!(cpu("42 (a) b (c)) S 7 1 1 0 -1 4194304 1 2 3 4 150 25 0 0 20"), Some(Duration::from_millis(1_750)));
        let machine = |text: &str| Machine::parse(text).expect("a line");
        let then = machine("cpu  10 0 10 80 0 0 0 0 0 0\n");
        let now = machine("cpu  40 0 10 140 0 5 5 0 0 0\n");
        assert!((now.busy_since(then) - 0.4).abs() < 1e-9);
        assert!(then.busy_since(then).abs() < 1e-9);
    }

    #[test]
    fn this_process_has_something() {
        let own = Usage::own();
        assert!(own.memory_bytes > 100_000, "{own:?}");
        assert!(i32::try_from(std::process::id()).is_ok_and(|pid| descriptors(pid) > 2));
    }
}
