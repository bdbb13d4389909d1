//! Where groups of a controller can be made, and what is written there, in the words of each version. Pure.

use std::path::{Path, PathBuf};

/// The time in which a quota of CPU is given out anew; the one that containers get.
const PERIOD_US: u64 = 100_000;

/// The kernel has two interfaces; a host may have one controller in the first and another in the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// A folder to make groups in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) version: Version,
    pub(super) folder: PathBuf,
}

/// Files of a group, and what is written to them in this order.
pub(super) type Settings = Vec<(&'static str, String)>;

impl Place {
    /// Of version 1 it is below the group of this process, of version 2 at the root: below a group that has processes there
    /// are none with controllers. `mounts` and `own` are /proc/self/mountinfo and /proc/self/cgroup, `controllers` the
    /// file cgroup.controllers at the root of version 2.
    pub(super) fn find(
        controller: &str,
        mounts: &str,
        own: &str,
        controllers: impl Fn(&Path) -> String,
    ) -> Option<Place> {
        Self::of_one(controller, mounts, own).or_else(|| {
            let (_, root) = mounted(mounts, |kind, _| kind == "cgroup2")?;
            let has = controllers(Path::new(root)).split_ascii_whitespace().any(|one| one == controller);
            has.then(|| Place { version: Version::Two, folder: root.into() })
        })
    }

    fn of_one(controller: &str, mounts: &str, own: &str) -> Option<Place> {
        let path = own.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|one| one == controller).then_some(path)
        })?;
        let is_it = |kind: &str, options: &str| kind == "cgroup" && options.split(',').any(|one| one == controller);
        let (root, mount) = mounted(mounts, is_it)?;
        let folder = Path::new(mount).join(Path::new(path).strip_prefix(root).ok()?);
        Some(Place { version: Version::One, folder })
    }
}

impl Version {
    /// So many cores.
    pub(super) fn cpu(self, cores: f64) -> Settings {
        let quota = (cores * PERIOD_US as f64).round() as u64;
        match self {
            Version::One => {
                vec![("cpu.cfs_period_us", PERIOD_US.to_string()), ("cpu.cfs_quota_us", quota.to_string())]
            }
            Version::Two => vec![("cpu.max", format!("{quota} {PERIOD_US}"))],
        }
    }

    /// So much memory.
    pub(super) fn memory(self, bytes: u64) -> Settings {
        let file = match self {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        };
        vec![(file, bytes.to_string())]
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

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "25 20 0:22 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755\n\
        30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:11 - cgroup cgroup rw,cpu,cpuacct\n\
        31 25 0:27 /pods /sys/fs/cgroup/memory rw shared:12 - cgroup cgroup rw,memory\n\
        32 25 0:28 / /sys/fs/cgroup/unified rw shared:13 - cgroup2 cgroup2 rw\n";
    const TWO: &str = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
        29 23 0:25 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";

    fn place(version: Version, folder: &str) -> Option<Place> {
        Some(Place { version, folder: folder.into() })
    }

    #[test]
    fn version_1_is_used_below_the_own_group_where_it_has_the_controller() {
        let own = "4:memory:/pods/a\n3:cpu,cpuacct:/user.slice\n0::/init.scope\n";
        let find = |controller| Place::find(controller, ONE, own, |_| String::new());
        assert_eq!(find("cpu"), place(Version::One, "/sys/fs/cgroup/cpu,cpuacct/user.slice"));
        assert_eq!(find("memory"), place(Version::One, "/sys/fs/cgroup/memory/a"));
        assert_eq!(find("io"), None, "neither has it");
        let elsewhere = "4:memory:/system/a\n";
        assert_eq!(Place::find("memory", ONE, elsewhere, |_| String::new()), None, "its group is not in sight");
    }

    #[test]
    fn version_2_is_used_at_its_root_where_that_has_the_controller() {
        let own = "0::/user.slice/user-0.slice/session-1.scope\n";
        let find = |controller: &str, controllers: &'static str| {
            Place::find(controller, TWO, own, |root| {
                assert_eq!(root, Path::new("/sys/fs/cgroup"));
                controllers.to_owned()
            })
        };
        for controller in ["cpu", "memory"] {
            let all = "cpuset cpu io memory hugetlb pids rdma misc\n";
            assert_eq!(find(controller, all), place(Version::Two, "/sys/fs/cgroup"));
            assert_eq!(find(controller, "cpuset io pids\n"), None);
            assert_eq!(find(controller, ""), None);
        }
        assert_eq!(Place::find("cpu", "", "0::/\n", |_| "cpu".to_owned()), None, "it is not mounted");
    }

    #[test]
    fn each_controller_has_its_own_version() {
        let own = "3:cpu,cpuacct:/\n0::/init.scope\n";
        let find = |controller| Place::find(controller, ONE, own, |_| "memory pids\n".to_owned());
        assert_eq!(find("cpu"), place(Version::One, "/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(find("memory"), place(Version::Two, "/sys/fs/cgroup/unified"));
    }

    #[test]
    fn bounds_are_said_in_the_words_of_each_version() {
        let text = |settings: Settings| {
            settings.iter().map(|(file, value)| format!("{file}: {value}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(text(Version::One.cpu(0.25)), "cpu.cfs_period_us: 100000, cpu.cfs_quota_us: 25000");
        assert_eq!(text(Version::One.memory(512 << 20)), "memory.limit_in_bytes: 536870912");
        assert_eq!(text(Version::Two.cpu(1.5)), "cpu.max: 150000 100000");
        assert_eq!(text(Version::Two.memory(512 << 20)), "memory.max: 536870912");
    }
}
