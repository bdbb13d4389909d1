//! The thread that starts an upstream's processes. They are bound to its life (see [`super::orphan`]), and threads of the
//! runtime come and go; so this one only waits for work, as long as any process or the connector is there.

use super::group::Group;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Most starts that wait.
const JOBS_MAX: usize = 256;

/// A handle to the thread, which ends with its last one.
#[derive(Clone)]
pub(crate) struct Spawner(Arc<SyncSender<Job>>);

struct Job {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Group>>,
}

impl Spawner {
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let (sender, jobs) = sync_channel::<Job>(JOBS_MAX);
        std::thread::Builder::new().name(format!("start-{name}")).spawn(move || {
            for Job { mut command, runtime, reply } in jobs {
                let _entered = runtime.enter();
                // When nobody waits any more the group is dropped, and with it killed.
                let _ = reply.send(command.spawn().map(Group::of));
            }
        })?;
        Ok(Self(Arc::new(sender)))
    }

    /// Starts a process.
    pub(crate) async fn spawn(&self, command: Command) -> io::Result<Group> {
        let (reply, group) = oneshot::channel();
        let job = Job { command, runtime: Handle::current(), reply };
        self.0.try_send(job).map_err(|_| io::ErrorKind::WouldBlock)?;
        group.await.map_err(|_| io::ErrorKind::BrokenPipe)?
    }
}
