//! A process with its group: whoever it has started itself ends with it, however the gateway lets go of it.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;

/// A child that leads a group of its own. The group is killed when this is dropped.
pub(crate) struct Group {
    pub(crate) child: Child,
    id: Option<Pid>,
}

impl Group {
    /// Takes over a child that was started with `process_group(0)`.
    pub(crate) fn of(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Self { child, id }
    }

    /// Sends a signal to all of them.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // Those that are gone already need none.
            let _ = killpg(id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::super::spawner::Spawner;
    use std::process::Stdio;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;
    use tokio::process::Command;

    #[tokio::test]
    async fn a_start_that_nobody_waits_for_leaves_nothing() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo; wait"]).stdout(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let mut group = Spawner::new("test").unwrap().spawn(command).await.unwrap();
        let mut stdout = group.child.stdout.take().unwrap();
        assert_eq!(stdout.read_u8().await.unwrap(), b'\n');
        drop(group);
        // Its child holds the same pipe, which ends with the last of them.
        let end = tokio::time::timeout(Duration::from_secs(20), stdout.read(&mut [0])).await;
        assert_eq!(end.expect("its child lives on").unwrap(), 0);
    }
}
