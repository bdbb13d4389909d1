//! The exchange with the coordinator.

use anyhow::{Context, Result};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::shared::Shared;
use crate::cli::WorkerOptions;
use crate::proto::coordinator_client::CoordinatorClient;
use crate::proto::{Done, FromWorker, Hello, Progress, ToWorker, from_worker, to_worker};

/// Reports that wait for the network; a worker that cannot get rid of them waits.
const WAITING_MAX: usize = 8;
const TRY_EVERY: std::time::Duration = std::time::Duration::from_millis(300);
/// A report of a busy second with all its histograms is far below this.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

pub(super) struct Link {
    to: mpsc::Sender<FromWorker>,
    from: Streaming<ToWorker>,
}

impl Link {
    /// Reaches the coordinator, which may start later, and says who this is.
    pub(super) async fn dial(options: &WorkerOptions) -> Result<Link> {
        let (to, waiting) = mpsc::channel(WAITING_MAX);
        let url = format!("http://{}", options.coordinator);
        let endpoint = Endpoint::from_shared(url).context("the coordinator's address")?.tcp_nodelay(true);
        let dial = async {
            loop {
                match endpoint.connect().await {
                    Ok(channel) => return channel,
                    Err(_) => tokio::time::sleep(TRY_EVERY).await,
                }
            }
        };
        let channel = tokio::time::timeout(options.patience, dial).await;
        let channel = channel.with_context(|| format!("no coordinator at {}", options.coordinator))?;
        let mut client = CoordinatorClient::new(channel).max_encoding_message_size(MESSAGE_BYTES_MAX);
        let hello = Hello {
            name: options.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            descriptors_max: crate::limits::descriptors()?,
            pid: std::process::id(),
        };
        let link = |from| Link { to: to.clone(), from };
        to.send(wrap(from_worker::Message::Hello(hello))).await?;
        let answer = client.work(ReceiverStream::new(waiting)).await.context("the coordinator refuses")?;
        Ok(link(answer.into_inner()))
    }

    /// What the coordinator says next; nothing at its end.
    pub(super) async fn next(&mut self) -> Result<Option<to_worker::Message>> {
        Ok(self.from.message().await.context("the coordinator is gone")?.and_then(|message| message.message))
    }

    /// Sends what was counted since the last time.
    pub(super) async fn report(&self, shared: &Shared) -> Result<()> {
        let examples = std::mem::take(&mut *shared.examples.borrow_mut());
        let (cells, refusals) = (shared.tally.borrow_mut().take(), shared.refusals.borrow_mut().take());
        let progress = Progress { cells, gauges: Some(shared.gauges()), examples, refusals };
        self.send(from_worker::Message::Progress(progress)).await
    }

    /// Says that everything was said, and waits until the coordinator has taken it.
    pub(super) async fn done(mut self) -> Result<()> {
        self.send(from_worker::Message::Done(Done {})).await?;
        while self.from.message().await.is_ok_and(|message| message.is_some()) {}
        Ok(())
    }

    async fn send(&self, message: from_worker::Message) -> Result<()> {
        self.to.send(wrap(message)).await.context("the coordinator is gone")
    }
}

fn wrap(message: from_worker::Message) -> FromWorker {
    FromWorker { message: Some(message) }
}
