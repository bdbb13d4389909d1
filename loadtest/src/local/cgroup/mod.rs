//! Control groups that hold each node to a share of the CPU and of the memory, of whichever version of the kernel's interface
//! has the controller. They are removed when they are dropped, and those of a run that was killed by the next one.

mod place;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use place::{Place, Settings, Version};

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

/// Where groups of a controller are made, and what each is told there.
#[derive(Debug)]
struct Control {
    name: &'static str,
    place: Place,
    settings: Settings,
}

/// Makes groups with the same bounds.
#[derive(Debug)]
pub(super) struct Groups(Vec<Control>);

/// One group: a folder for each place.
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
        let controllers = |root: &Path| fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let groups = Groups::at(bounds, |controller| Place::find(controller, &mounts, &own, controllers));
        let none = "cpu_max and memory_max need the control groups cpu and memory, and this host has none mounted";
        let groups = groups.context(none)?;
        groups.prepare()?;
        Ok(Some(groups))
    }

    /// Nothing when a bound has no controller. One that has no bound counts, where it is there.
    fn at(bounds: Bounds, place: impl Fn(&str) -> Option<Place>) -> Option<Groups> {
        let Bounds { cpu_max, memory_max } = bounds;
        let control = |name, settings: &dyn Fn(Version) -> Option<Settings>| {
            place(name).map(|place| Control { name, settings: settings(place.version).unwrap_or_default(), place })
        };
        let cpu = control("cpu", &|version| cpu_max.map(|cores| version.cpu(cores)));
        let memory = control("memory", &|version| memory_max.map(|bytes| version.memory(bytes)));
        let is_enough = (cpu.is_some() || cpu_max.is_none()) && (memory.is_some() || memory_max.is_none());
        is_enough.then(|| Groups(cpu.into_iter().chain(memory).collect()))
    }

    /// Of version 2 groups have the controllers that the one above names.
    fn prepare(&self) -> Result<()> {
        for Control { name, place, .. } in &self.0 {
            remove_left_behind(&place.folder);
            if place.version == Version::Two {
                write(&place.folder.join("cgroup.subtree_control"), &format!("+{name}")).context(
                    "control groups cannot be made here: run it as root, outside of containers, where they are not read-only",
                )?;
            }
        }
        Ok(())
    }

    /// A group for a process that runs already.
    pub(super) fn hold(&self, name: &str, pid: i32) -> Result<Group> {
        let name = format!("{PREFIX}{}-{name}", std::process::id());
        let group = self.make(&name)?;
        self.fill(&name, &group, pid)?;
        Ok(group)
    }

    fn make(&self, name: &str) -> Result<Group> {
        let mut group = Group(Vec::new());
        for Control { place, .. } in &self.0 {
            let folder = place.folder.join(name);
            // Several controllers may be in one place.
            if !group.0.contains(&folder) {
                let rights = || format!("no control group at {}: run it as root", folder.display());
                fs::create_dir(&folder).with_context(rights)?;
                group.0.push(folder);
            }
        }
        Ok(group)
    }

    fn fill(&self, name: &str, group: &Group, pid: i32) -> Result<()> {
        for Control { place, settings, .. } in &self.0 {
            let folder = place.folder.join(name);
            settings.iter().try_for_each(|(file, value)| write(&folder.join(file), value))?;
        }
        group.0.iter().try_for_each(|folder| write(&folder.join("cgroup.procs"), &pid.to_string()))
    }
}

/// To a file that the kernel has made.
fn write(file: &Path, value: &str) -> Result<()> {
    let opened = File::options().write(true).open(file);
    let written = opened.and_then(|mut opened| opened.write_all(value.as_bytes()));
    written.with_context(|| format!("cannot write {value} to {}", file.display()))
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
    use tempfile::TempDir;

    const BOTH: Bounds = Bounds { cpu_max: Some(0.25), memory_max: Some(512 << 20) };

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        write_all(folder.path(), files);
        folder
    }

    fn write_all(folder: &Path, files: &[(&str, &str)]) {
        files.iter().for_each(|(file, text)| fs::write(folder.join(file), text).expect("a file"));
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).expect("a file")
    }

    /// What the kernel makes in a new group of version 2, before anything ran there.
    const MADE: [(&str, &str); 6] = [
        ("cgroup.procs", ""),
        ("cpu.max", ""),
        ("memory.max", ""),
        ("memory.peak", "0\n"),
        ("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"),
        ("cpu.stat", "usage_usec 0\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n"),
    ];

    #[test]
    fn of_version_2_a_group_is_one_folder_with_both_controllers() {
        let root = folder(&[("cgroup.subtree_control", "")]);
        let place = |_: &str| Some(Place { version: Version::Two, folder: root.path().to_owned() });
        let groups = Groups::at(BOTH, place).expect("both controllers");
        groups.prepare().expect("prepared");
        // The kernel takes each line that is written; a file keeps the last one where they overlap.
        assert_eq!(text(&root.path().join("cgroup.subtree_control")), "+memory");

        let group = groups.make("g").expect("a group");
        let own = root.path().join("g");
        assert_eq!(group.0, std::slice::from_ref(&own));
        assert!(groups.fill("g", &group, 42).is_err(), "there are no files yet");
        write_all(&own, &MADE);
        groups.fill("g", &group, 42).expect("filled");
        let written = ["cpu.max", "memory.max", "cgroup.procs"].map(|file| text(&own.join(file)));
        assert_eq!(written, ["25000 100000", "536870912", "42"]);
        assert_eq!(group.counted(), Counted { memory_peak_bytes: Some(0), ..Counted::default() });

        write_all(
            &own,
            &[
                ("memory.peak", "4096\n"),
                ("memory.events", "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 1\n"),
                ("cpu.stat", "usage_usec 9\nnr_periods 10\nnr_throttled 3\nthrottled_usec 5\n"),
            ],
        );
        let wanted = Counted { memory_peak_bytes: Some(4_096), oom_kills: 2, throttled: 3, periods: 10 };
        assert_eq!(group.counted(), wanted);
        // Its folder is none of the kernel's, which would go with what is in it.
        std::mem::forget(group);
    }

    #[test]
    fn a_bound_needs_its_controller_and_a_controller_without_one_counts() {
        let only = |has: &'static str| {
            move |name: &str| (name == has).then(|| Place { version: Version::Two, folder: "/".into() })
        };
        assert!(Groups::at(BOTH, only("cpu")).is_none() && Groups::at(BOTH, only("memory")).is_none());
        let bounds = Bounds { cpu_max: Some(1.0), memory_max: None };
        let groups = Groups::at(bounds, only("cpu")).expect("enough");
        assert_eq!(groups.0.len(), 1);
        let groups = Groups::at(bounds, |_| Some(Place { version: Version::One, folder: "/".into() }));
        let groups = groups.expect("enough");
        let [cpu, memory] = &groups.0[..] else { panic!("{groups:?}") };
        assert_eq!((cpu.settings.len(), memory.settings.len()), (2, 0));
    }

    #[test]
    fn of_version_1_there_is_a_folder_for_each_controller_and_it_goes_with_the_group() {
        let roots = [folder(&[]), folder(&[])];
        let place = |name: &str| {
            let root = if name == "cpu" { &roots[0] } else { &roots[1] };
            Some(Place { version: Version::One, folder: root.path().to_owned() })
        };
        let groups = Groups::at(BOTH, place).expect("both controllers");
        groups.prepare().expect("nothing to do");
        let group = groups.make("g").expect("a group");
        let own = roots.each_ref().map(|root| root.path().join("g"));
        assert_eq!(group.0, own);
        drop(group);
        assert!(!own[0].exists() && !own[1].exists());

        let group = Group(vec![roots[0].path().to_owned()]);
        write_all(
            roots[0].path(),
            &[
                ("memory.max_usage_in_bytes", "4096\n"),
                ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
                ("cpu.stat", "nr_periods 10\nnr_throttled 3\nthrottled_time 5\n"),
            ],
        );
        let wanted = Counted { memory_peak_bytes: Some(4_096), oom_kills: 2, throttled: 3, periods: 10 };
        assert_eq!(group.counted(), wanted);
        std::mem::forget(group);
    }
}
