//! What bounds the memory of this process, and how much of it is used: each control group that it is in, and the process
//! itself beside what it is given. Files of Linux; what cannot be read is not there.

use crate::pressure::Memory;
use std::fs;
use std::path::{Path, PathBuf};

/// "No limit" is "max", or a number near that of all addresses.
const LIMIT_MAX: u64 = 1 << 60;

/// Everything that bounds the memory of this process. Groups change, so it is looked for anew from time to time.
#[derive(Debug)]
pub(crate) struct Bounds {
    groups: Vec<Group>,
    /// Of the process alone.
    own_max: Option<u64>,
}

/// A control group with a limit.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    version: &'static Version,
    max_bytes: u64,
    /// It says how much of what is used are pages of files.
    tells_files: bool,
}

/// Where a version of control groups keeps what.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    mount: &'static str,
    /// Files with limits; the lowest counts. Beyond `memory.high` nobody is ended, but everybody in the group is slowed
    /// down so much that it comes to the same.
    max: &'static [&'static str],
    used: &'static str,
    /// File pages, which are given back before anybody is ended: those of the group and all groups in it.
    files: [&'static str; 2],
}

static ONE: Version = Version {
    mount: "sys/fs/cgroup/memory",
    max: &["memory.limit_in_bytes"],
    used: "memory.usage_in_bytes",
    files: ["total_inactive_file", "total_active_file"],
};
static TWO: Version = Version {
    mount: "sys/fs/cgroup",
    max: &["memory.max", "memory.high"],
    used: "memory.current",
    files: ["inactive_file", "active_file"],
};

impl Bounds {
    /// Looks for them. The process alone may take `own_max` bytes, or else what the machine has.
    pub(crate) fn find(own_max: Option<u64>) -> Self {
        Self::below(Path::new("/"), own_max)
    }

    /// The same in the file system below `root`.
    fn below(root: &Path, own_max: Option<u64>) -> Self {
        let told = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let groups = told.lines().flat_map(|line| Group::of(root, line)).collect();
        Self { groups, own_max: own_max.or_else(|| machine_bytes(root)) }
    }

    /// The smallest limit of a group.
    pub(crate) fn group_max(&self) -> Option<u64> {
        self.groups.iter().map(|group| group.max_bytes).min()
    }

    /// A group that does not say how much of what is used are pages of files: there, what this process uses itself counts.
    pub(crate) fn unclear(&self) -> Option<&Path> {
        self.groups.iter().find(|group| !group.tells_files).map(|group| &*group.folder)
    }

    /// What is used of that which is nearest to its end.
    pub(crate) fn read(&self) -> Option<Memory> {
        self.read_with(own_bytes())
    }

    fn read_with(&self, own_bytes: Option<u64>) -> Option<Memory> {
        let own = self.own_max.zip(own_bytes).map(|(max_bytes, used_bytes)| Memory { used_bytes, max_bytes });
        self.groups.iter().filter_map(|group| group.read(own_bytes)).chain(own).max_by_key(|memory| memory.per_mille())
    }
}

impl Group {
    /// Those with a limit among the group in a line of `/proc/self/cgroup` (cgroups(7)) and all above it. In a container
    /// the process's own group is the root of what it sees, whatever its path.
    fn of(root: &Path, line: &str) -> Vec<Self> {
        let mut parts = line.splitn(3, ':').skip(1);
        let (version, path) = match (parts.next(), parts.next()) {
            (Some(""), Some(path)) => (&TWO, path),
            (Some(controllers), Some(path)) if controllers.split(',').any(|one| one == "memory") => (&ONE, path),
            _ => return Vec::new(),
        };
        let all = Path::new(path.trim_start_matches('/')).ancestors();
        let limited = all.filter_map(|path| {
            let folder = root.join(version.mount).join(path);
            let limits = version.max.iter().filter_map(|name| number(&folder.join(name)));
            let max_bytes = limits.filter(|bytes| *bytes < LIMIT_MAX).min()?;
            let tells_files = files_bytes(&folder, version).is_some();
            Some(Self { folder, version, max_bytes, tells_files })
        });
        limited.collect()
    }

    /// What is used of it; `own_bytes` are used by this process.
    fn read(&self, own_bytes: Option<u64>) -> Option<Memory> {
        let used = number(&self.folder.join(self.version.used))?;
        let used_bytes = match files_bytes(&self.folder, self.version) {
            Some(files_bytes) => used.saturating_sub(files_bytes),
            None => own_bytes.map_or(used, |own| own.min(used)),
        };
        Some(Memory { used_bytes, max_bytes: self.max_bytes })
    }
}

/// The pages of files in a group, if it tells.
fn files_bytes(folder: &Path, version: &Version) -> Option<u64> {
    let told = fs::read_to_string(folder.join("memory.stat")).ok()?;
    let pairs = told.lines().filter_map(|line| line.split_once(' '));
    let files = pairs.filter(|(name, _)| version.files.contains(name));
    files.filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok()).reduce(u64::saturating_add)
}

/// What this process uses itself: of what is resident that which is no page of a file.
fn own_bytes() -> Option<u64> {
    let told = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = told.split_ascii_whitespace().skip(1).map_while(|number| number.parse::<u64>().ok());
    let (resident, shared) = (pages.next()?, pages.next()?);
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// All memory of the machine.
fn machine_bytes(root: &Path) -> Option<u64> {
    let told = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_LIMIT: &str = "9223372036854771712\n";

    /// A file system with these files.
    fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            fs::write(file, text).expect("written");
        }
        root
    }

    fn memory(used_bytes: u64, max_bytes: u64) -> Option<Memory> {
        Some(Memory { used_bytes, max_bytes })
    }

    #[test]
    fn the_group_that_is_nearest_to_its_end_counts_whichever_level_it_is() {
        let root = files(&[
            ("proc/self/cgroup", "5:cpu,cpuacct:/a/b\n4:memory:/a/b\n0::/\n"),
            ("proc/meminfo", "MemTotal:  1000 kB\nMemFree: 1 kB\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", NO_LIMIT),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "5000\n"),
            ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "4000\n"),
            (
                "sys/fs/cgroup/memory/a/memory.stat",
                "inactive_file 1\ntotal_cache 9\ntotal_inactive_file 100\ntotal_active_file 50\n",
            ),
            ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9000\n"),
            ("sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "2000\n"),
        ]);
        let bounds = Bounds::below(root.path(), None);
        assert_eq!((bounds.group_max(), bounds.own_max), (Some(5000), Some(1_024_000)));
        assert_eq!(bounds.read_with(Some(7)), memory(3850, 5000));
        assert_eq!(bounds.read_with(Some(1_000_000)), memory(1_000_000, 1_024_000));
        fs::write(root.path().join("sys/fs/cgroup/memory/a/b/memory.usage_in_bytes"), "8999").expect("written");
        assert_eq!(bounds.read_with(None), memory(8999, 9000));
    }

    #[test]
    fn in_a_container_the_root_of_what_is_seen_is_the_own_group() {
        let root = files(&[
            ("proc/self/cgroup", "0::/kubepods/x\n"),
            ("sys/fs/cgroup/memory.max", "2000\n"),
            ("sys/fs/cgroup/memory.current", "500\n"),
            ("sys/fs/cgroup/memory.stat", "anon 400\ninactive_file 20\nactive_file 30\nworkingset_x 7\n"),
        ]);
        let bounds = Bounds::below(root.path(), Some(1000));
        assert_eq!((bounds.group_max(), bounds.read_with(Some(10))), (Some(2000), memory(450, 2000)));
        assert_eq!(bounds.read_with(Some(900)), memory(900, 1000));
    }

    #[test]
    fn a_limit_that_slows_down_is_a_limit() {
        let root = files(&[
            ("proc/self/cgroup", "0::/system.slice/x\n"),
            ("sys/fs/cgroup/system.slice/x/memory.max", "2000\n"),
            ("sys/fs/cgroup/system.slice/x/memory.high", "1500\n"),
            ("sys/fs/cgroup/system.slice/x/memory.current", "500\n"),
            ("sys/fs/cgroup/system.slice/x/memory.stat", "inactive_file 20\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "max\n"),
            ("sys/fs/cgroup/system.slice/memory.high", "1400\n"),
            ("sys/fs/cgroup/system.slice/memory.current", "1300\n"),
            ("sys/fs/cgroup/system.slice/memory.stat", "inactive_file 900\n"),
        ]);
        let bounds = Bounds::below(root.path(), None);
        assert_eq!((bounds.group_max(), bounds.read_with(None)), (Some(1400), memory(480, 1500)));
        fs::write(root.path().join("sys/fs/cgroup/system.slice/x/memory.high"), "max\n").expect("written");
        assert_eq!(Bounds::below(root.path(), None).read_with(None), memory(400, 1400));
        assert_eq!(bounds.unclear(), None);
    }

    #[test]
    fn where_files_are_not_told_the_process_counts() {
        for told in [None, Some("anon 5\n")] {
            let root = files(&[
                ("proc/self/cgroup", "0::/\n"),
                ("sys/fs/cgroup/memory.max", "2000\n"),
                ("sys/fs/cgroup/memory.current", "1900\n"),
            ]);
            let group = root.path().join("sys/fs/cgroup");
            told.into_iter().for_each(|text| fs::write(group.join("memory.stat"), text).expect("written"));
            let bounds = Bounds::below(root.path(), None);
            assert_eq!(bounds.unclear(), Some(&*group));
            assert_eq!(bounds.read_with(Some(300)), memory(300, 2000), "pages of files are not used up");
            assert_eq!(bounds.read_with(Some(5000)), memory(1900, 2000));
            assert_eq!(bounds.read_with(None), memory(1900, 2000), "nothing else is known");
        }
    }

    #[test]
    fn without_a_limit_the_process_is_measured_by_the_machine() {
        let root = files(&[
            ("proc/self/cgroup", "0::/\n4:memory:/\n"),
            ("proc/meminfo", "MemTotal: 2 kB\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", NO_LIMIT),
        ]);
        let bounds = Bounds::below(root.path(), None);
        assert_eq!((bounds.group_max(), bounds.read_with(Some(512))), (None, memory(512, 2048)));
        let nowhere = files(&[]);
        assert_eq!(Bounds::below(nowhere.path(), None).read_with(Some(1)), None);
    }

    #[test]
    fn this_process_is_bounded_by_something() {
        let memory = Bounds::find(None).read().expect("Linux");
        assert!(memory.used_bytes > 100_000 && memory.max_bytes > memory.used_bytes, "{memory:?}");
    }
}
