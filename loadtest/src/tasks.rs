//! How many tasks nodes have, by their own account (`GET /metrics`). They are asked beside the run: one that does not answer
//! keeps nobody waiting.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::http::Connection;
use crate::timeline::Watched;

const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n";
/// The metric, with a value for each runtime of the process.
const TASKS: &str = "enfilade_runtime_tasks{";
/// An answer that comes later belongs to no sample any more.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Nodes that were asked.
#[derive(Debug, Default)]
pub(crate) struct Tasks(JoinSet<Option<(String, u64)>>);

impl Tasks {
    /// Asks all that tell it. Needs a `LocalSet`.
    pub(crate) fn ask(&mut self, watched: &[Watched]) {
        for one in watched {
            let Some(address) = one.health else { continue };
            let name = one.name.clone();
            // Each ends within a bound, and there is one for each node.
            self.0.spawn_local(async move { Some((name, asked(address).await?)) });
        }
    }

    /// An answer that has come since, and whose.
    pub(crate) fn told(&mut self) -> Option<(String, u64)> {
        // One that failed is not known.
        while let Some(done) = self.0.try_join_next() {
            if let Ok(Some(told)) = done {
                return Some(told);
            }
        }
        None
    }
}

async fn asked(address: SocketAddr) -> Option<u64> {
    let exchange = async { Connection::open(address, None).await?.ask(REQUEST).await };
    let answer = timeout(ANSWER_WITHIN, exchange).await.ok()?.ok()?;
    sum(std::str::from_utf8(&answer.body).ok()?)
}

/// Over all runtimes; nothing when the page does not say.
fn sum(page: &str) -> Option<u64> {
    let values = page.lines().filter_map(|line| line.strip_prefix(TASKS)?.rsplit_once(' ')?.1.parse::<u64>().ok());
    values.reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tasks_of_all_runtimes_are_added() {
        let page = "# HELP enfilade_runtime_tasks Tasks.\n# TYPE enfilade_runtime_tasks gauge\n\
                    enfilade_runtime_tasks{runtime=\"main\"} 700\nenfilade_runtime_tasks{runtime=\"control\"} 33\n\
                    enfilade_sessions 9\n";
        assert_eq!(sum(page), Some(733));
        assert_eq!(sum("process_open_fds 7\n"), None, "a node that does not serve yet");
    }
}
