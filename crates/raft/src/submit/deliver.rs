//! Brings one batch into the log: by proposing it here, or by sending it to whoever leads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_proto::raft as pb;
use openraft::errors::RaftError;
use prost::Message as _;
use tokio::time::{Instant, sleep, timeout_at};

use crate::codec::{self, BadMessage, part};
use crate::core::{Core, Lead};
use crate::types::{Batch, Proposal};
use crate::{RaftCall, ServeError};

/// How long to wait before a batch is sent again to the same leader.
const PAUSE: Duration = Duration::from_millis(50);

/// What came of one attempt.
enum Attempt {
    /// It is in the log at this index, for good.
    Committed(u64),
    /// It may be in the log or not.
    Again,
    /// This replica has stopped.
    Stopped,
}

impl Core {
    /// Returns when the callers are answered, one way or the other.
    pub(crate) async fn deliver(&self, batch: Arc<Batch>) {
        let until = Instant::now() + self.config.submit_within;
        let seq = batch.seq;
        // Late is not lost: whether it takes effect is not known. The callers hear `Unavailable`.
        let _ = timeout_at(until, self.deliver_in_time(batch, until)).await;
        self.state.pending.give_up(seq);
    }

    async fn deliver_in_time(&self, batch: Arc<Batch>, until: Instant) {
        while self.state.pending.waits(batch.seq) {
            let lead = self.lead();
            let attempt = match lead.leader {
                _ if lead.is_me => self.propose(batch.clone()).await,
                Some(_) => self.forward(&batch, lead, until).await,
                None => Attempt::Again,
            };
            match attempt {
                Attempt::Committed(index) => {
                    let mut applied = self.state.watch_index();
                    // With a snapshot this node may pass the index without applying the batch: then nobody knows.
                    let _ = applied.wait_for(|applied| *applied >= index).await;
                    return;
                }
                Attempt::Again => tokio::select! {
                    () = self.lead_changed(lead) => {}
                    () = sleep(PAUSE) => {}
                },
                Attempt::Stopped => return,
            }
        }
    }

    async fn propose(&self, batch: Arc<Batch>) -> Attempt {
        match self.openraft.client_write(Proposal::Batch(batch)).await {
            Ok(written) => Attempt::Committed(written.log_id.index),
            // It does not lead, or has no majority's answer yet, or hands over, or was deposed meanwhile.
            Err(RaftError::APIError(error)) => {
                tracing::debug!(%error, "a batch was not written");
                Attempt::Again
            }
            Err(RaftError::Fatal(_)) => Attempt::Stopped,
        }
    }

    async fn forward(&self, batch: &Batch, lead: Lead, until: Instant) -> Attempt {
        let Some(leader) = lead.leader else { return Attempt::Again };
        let asked = pb::SubmitRequest { batch: Some(codec::batch_to(batch)) };
        let within = until.saturating_duration_since(Instant::now());
        let call = self.config.transport.call(leader, RaftCall::Submit, asked.encode_to_vec().into(), within);
        let answer = tokio::select! {
            answer = call => answer,
            // A leader that was deposed, or that is cut off, answers late or never.
            () = self.lead_changed(lead) => return Attempt::Again,
        };
        let answer = match answer {
            Ok(answer) => pb::SubmitResponse::decode(answer).unwrap_or_default(),
            Err(error) => {
                tracing::debug!(%error, "a batch did not reach the leader");
                return Attempt::Again;
            }
        };
        match answer.result() {
            pb::submit_response::Result::Committed => Attempt::Committed(answer.index),
            pb::submit_response::Result::NotLeader | pb::submit_response::Result::Unknown => Attempt::Again,
        }
    }

    /// As the leader: proposes a batch of another node.
    pub(crate) async fn serve_submit(&self, body: Bytes) -> Result<Bytes, ServeError> {
        use pb::submit_response::Result as R;
        let asked = pb::SubmitRequest::decode(body).map_err(BadMessage::from)?;
        let batch = codec::batch_from(part(asked.batch, "a batch")?)?;
        let (result, index) = match self.propose(Arc::new(batch)).await {
            Attempt::Committed(index) => (R::Committed, index),
            Attempt::Again => (R::NotLeader, 0),
            Attempt::Stopped => return Err(ServeError::Stopped),
        };
        Ok(pb::SubmitResponse { result: result.into(), index }.encode_to_vec().into())
    }
}
