//! Control groups that hold each node to a share of the CPU and of the memory: version 1 below the group of this process,
//! version 2 below the root. They are removed when they are dropped, and those of a run that was killed by the next one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The time in which a quota of CPU is given out anew; the one that containers get.
const PERIOD_US: u64 = 100_000;
const PREFIX: &str = "enfilade-loadtest-";
/// Processes that were killed leave their group within this time.
const REMOVED_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What each node is held to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bounds {
    pub(super) cpu_max: Option<f64>,
    pub(super) memory_max: Option<u64>,
}

/// What a group counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Most memory at a time, that of the kernel and of file pages included.
    pub(super) memory_peak_bytes: Option<u64>,
    pub(super) oom_kills: u64,
    /// Periods in which it had used up its CPU, of all in which it ran.
    pub(super) throttled: u64,
    pub(super) periods: u64,
}

/// Where groups are made.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hierarchy {
    /// Folders of the own groups of the controllers cpu and memory.
    One { cpu: Option<PathBuf>, memory: Option<PathBuf> },
    /// The root of the common hierarchy.
    Two(PathBuf),
}

/// Makes groups with the same bounds.
#[derive(Debug)]
pub(super) struct Groups {
    hierarchy: Hierarchy,
    bounds: Bounds,
}

/// One group, which may be two folders.
#[derive(Debug)]
pub(super) struct Group(Vec<PathBuf>);

impl Groups {
    /// Looks for what this host has; the error says what is missing. Nothing without bounds.
    pub(super) fn new(bounds: Bounds) -> Result<Option<Groups>> {
        if bounds == Bounds::default() {
            return Ok(None);
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("the mounts of this host are not known")?;
        let own = fs::read_to_string("/proc/self/cgroup").context("this host has no control groups")?;
        let hierarchy = Hierarchy::find(&mounts, &own);
        let Some(hierarchy) = hierarchy.filter(|found| found.has(bounds)) else {
            bail!("cpu_max and memory_max need the control groups cpu and memory, and this host has none mounted");
        };
        hierarchy.folders().for_each(remove_left_behind);
        if let Hierarchy::Two(root) = &hierarchy {
            let control = root.join("cgroup.subtree_control");
            let rights = "control groups cannot be made here: run it as root, where they are not read-only";
            fs::write(control, "+cpu +memory").context(rights)?;
        }
        Ok(Some(Groups { hierarchy, bounds }))
    }

    /// A group for a process that runs already.
    pub(super) fn hold(&self, name: &str, pid: i32) -> Result<Group> {
        let mut group = Group(Vec::new());
        let name = format!("{PREFIX}{}-{name}", std::process::id());
        for folder in self.hierarchy.folders() {
            let folder = folder.join(&name);
            let rights = || format!("no control group at {}: run it as root", folder.display());
            fs::create_dir(&folder).with_context(rights)?;
            group.0.push(folder.clone());
        }
        for (file, value) in self.settings() {
            group.write(file, &value)?;
        }
        for folder in &group.0 {
            let file = folder.join("cgroup.procs");
            fs::write(&file, pid.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(group)
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let Bounds { cpu_max, memory_max } = self.bounds;
        let quota = cpu_max.map(|cores| (cores * PERIOD_US as f64).round() as u64);
        let mut all = Vec::new();
        match self.hierarchy {
            Hierarchy::One { .. } => {
                all.extend(quota.map(|_| ("cpu.cfs_period_us", PERIOD_US.to_string())));
                all.extend(quota.map(|quota| ("cpu.cfs_quota_us", quota.to_string())));
                all.extend(memory_max.map(|bytes| ("memory.limit_in_bytes", bytes.to_string())));
            }
            Hierarchy::Two(_) => {
                all.extend(quota.map(|quota| ("cpu.max", format!("{quota} {PERIOD_US}"))));
                all.extend(memory_max.map(|bytes| ("memory.max", bytes.to_string())));
            }
        }
        all
    }
}

impl Hierarchy {
    /// From /proc/self/mountinfo and /proc/self/cgroup.
    fn find(mounts: &str, own: &str) -> Option<Hierarchy> {
        let one = |controller: &str| -> Option<PathBuf> {
            let path = own.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                controllers.split(',').any(|one| one == controller).then_some(path)
            })?;
            let (root, mount) = mounted(mounts, |kind, options| {
                kind == "cgroup" && options.split(',').any(|option| option == controller)
            })?;
            Some(Path::new(mount).join(Path::new(path).strip_prefix(root).ok()?))
        };
        let (cpu, memory) = (one("cpu"), one("memory"));
        if cpu.is_some() || memory.is_some() {
            return Some(Hierarchy::One { cpu, memory });
        }
        mounted(mounts, |kind, _| kind == "cgroup2").map(|(_, mount)| Hierarchy::Two(mount.into()))
    }

    fn has(&self, bounds: Bounds) -> bool {
        match self {
            Hierarchy::One { cpu, memory } => {
                (cpu.is_some() || bounds.cpu_max.is_none()) && (memory.is_some() || bounds.memory_max.is_none())
            }
            Hierarchy::Two(root) => {
                let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
                ["cpu", "memory"].iter().all(|name| controllers.split_ascii_whitespace().any(|has| has == *name))
            }
        }
    }

    fn folders(&self) -> impl Iterator<Item = &Path> {
        let (first, second) = match self {
            Hierarchy::One { cpu, memory } => (cpu.as_deref(), memory.as_deref()),
            Hierarchy::Two(root) => (Some(root.as_path()), None),
        };
        // Both controllers may be in one place.
        first.into_iter().chain(second.filter(|second| Some(*second) != first))
    }
}

/// Root and place of the first mount whose type and options are the right ones.
fn mounted(mounts: &str, is_it: impl Fn(&str, &str) -> bool) -> Option<(&str, &str)> {
    mounts.lines().find_map(|line| {
        let (place, what) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let mut what = what.split(' ');
        let (kind, options) = (what.next()?, what.nth(1)?);
        is_it(kind, options).then_some((place.next()?, place.next()?))
    })
}

impl Group {
    pub(super) fn counted(&self) -> Counted {
        let stat = |file: &str, name: &str| self.read(file).as_deref().and_then(|text| field(text, name));
        let peak = ["memory.max_usage_in_bytes", "memory.peak"].iter().find_map(|file| self.read(file));
        Counted {
            memory_peak_bytes: peak.and_then(|text| text.trim().parse().ok()),
            oom_kills: stat("memory.oom_control", "oom_kill").or(stat("memory.events", "oom_kill")).unwrap_or(0),
            throttled: stat("cpu.stat", "nr_throttled").unwrap_or(0),
            periods: stat("cpu.stat", "nr_periods").unwrap_or(0),
        }
    }

    fn read(&self, file: &str) -> Option<String> {
        self.0.iter().find_map(|folder| fs::read_to_string(folder.join(file)).ok())
    }

    /// To the folder that has the file: of version 1 there is one for each controller.
    fn write(&self, file: &str, value: &str) -> Result<()> {
        let place = self.0.iter().map(|folder| folder.join(file)).find(|path| path.exists());
        let place = place.with_context(|| format!("this host's control groups have no {file}"))?;
        fs::write(&place, value).with_context(|| format!("cannot write {value} to {}", place.display()))
    }
}

impl Drop for Group {
    #[expect(clippy::disallowed_methods, reason = "this is the end, and nothing can be awaited here")]
    fn drop(&mut self) {
        let begun = Instant::now();
        for folder in &self.0 {
            // A process that was just killed may be on its way out.
            while let Err(error) = fs::remove_dir(folder) {
                if error.kind() == io::ErrorKind::NotFound {
                    break;
                }
                if begun.elapsed() > REMOVED_WITHIN {
                    eprintln!("{}: not removed: {error}", folder.display());
                    break;
                }
                sleep(LOOK_EVERY);
            }
        }
    }
}

/// Groups of programs that do not run any more. One that is not empty stays.
fn remove_left_behind(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// `name value` in a line of its own.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "25 20 0:22 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755\n\
        30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:11 - cgroup cgroup rw,cpu,cpuacct\n\
        31 25 0:27 /pods /sys/fs/cgroup/memory rw shared:12 - cgroup cgroup rw,memory\n\
        32 25 0:28 / /sys/fs/cgroup/unified rw shared:13 - cgroup2 cgroup2 rw\n";

    #[test]
    fn groups_are_made_below_the_own_one_or_below_the_root() {
        let own = "4:memory:/pods/a\n3:cpu,cpuacct:/user.slice\n0::/init.scope\n";
        let one = Hierarchy::find(ONE, own);
        let wanted = Hierarchy::One {
            cpu: Some("/sys/fs/cgroup/cpu,cpuacct/user.slice".into()),
            memory: Some("/sys/fs/cgroup/memory/a".into()),
        };
        assert_eq!(one, Some(wanted));
        let two = "29 23 0:25 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(Hierarchy::find(two, "0::/user.slice\n"), Some(Hierarchy::Two("/sys/fs/cgroup".into())));
        assert_eq!(Hierarchy::find("", "0::/\n"), None);
    }

    #[test]
    fn bounds_are_said_in_the_words_of_each_version() {
        let bounds = Bounds { cpu_max: Some(0.25), memory_max: Some(512 << 20) };
        let of = |hierarchy| Groups { hierarchy, bounds }.settings();
        let one = of(Hierarchy::One { cpu: None, memory: None });
        assert!(one.contains(&("cpu.cfs_quota_us", "25000".to_owned())), "{one:?}");
        assert!(one.contains(&("memory.limit_in_bytes", "536870912".to_owned())), "{one:?}");
        let two = of(Hierarchy::Two("/".into()));
        assert_eq!(two, [("cpu.max", "25000 100000".to_owned()), ("memory.max", "536870912".to_owned())]);
    }

    #[test]
    fn what_a_group_counts_is_read_and_the_folder_goes_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        for (file, text) in [
            ("memory.max_usage_in_bytes", "4096\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("cpu.stat", "nr_periods 10\nnr_throttled 3\nthrottled_time 5\n"),
        ] {
            fs::write(folder.path().join(file), text).expect("a file");
        }
        let group = Group(vec![folder.path().to_owned()]);
        let wanted = Counted { memory_peak_bytes: Some(4_096), oom_kills: 2, throttled: 3, periods: 10 };
        assert_eq!(group.counted(), wanted);
        assert!(group.write("memory.max", "1").is_err(), "there is no such file");
        std::mem::forget(group);
        let empty = folder.path().join("empty");
        fs::create_dir(&empty).expect("a folder");
        drop(Group(vec![empty.clone()]));
        assert!(!empty.exists());
    }
}
