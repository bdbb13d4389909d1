//! Brings one batch into the log: by proposing it here, or by sending it to whoever leads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_proto::raft as pb;
use prost::Message as _;
use tokio::time::{Instant, sleep, timeout_at};

use super::way::{Attempt, Lead, Way};
use crate::codec::{self, BadMessage, part};
use crate::core::Core;
use crate::types::Batch;
use crate::{RaftCall, ServeError};

/// How long to wait before a batch is sent again to the same leader.
const PAUSE: Duration = Duration::from_millis(50);

impl Way {
    /// Returns when the callers are answered, one way or the other.
    pub(crate) async fn deliver(&self, batch: Arc<Batch>) {
        let until = Instant::now() + self.submitting.within;
        let seq = batch.seq;
        // Late is not lost: whether it takes effect is not known. The callers hear `Unavailable`.
        let _ = timeout_at(until, self.deliver_in_time(batch, until)).await;
        self.pending.give_up(seq);
    }

    async fn deliver_in_time(&self, batch: Arc<Batch>, until: Instant) {
        while self.pending.waits(batch.seq) {
            let lead = self.lead();
            let attempt = match lead.leader {
                _ if lead.is_me => self.propose(batch.clone()).await,
                Some(_) => self.forward(&batch, lead, until).await,
                None => Attempt::Again,
            };
            match attempt {
                Attempt::Committed(index) => {
                    let mut applied = self.applied.clone();
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

    async fn forward(&self, batch: &Batch, lead: Lead, until: Instant) -> Attempt {
        let Some(leader) = lead.leader else { return Attempt::Again };
        let asked = pb::SubmitRequest { batch: Some(codec::batch_to(batch)) };
        let within = until.saturating_duration_since(Instant::now());
        let call = self.transport.call(leader, RaftCall::Submit, asked.encode_to_vec().into(), within);
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
}

impl Core {
    /// As the leader: proposes a batch of another node.
    pub(crate) async fn serve_submit(&self, body: Bytes) -> Result<Bytes, ServeError> {
        use pb::submit_response::Result as R;
        let asked = pb::SubmitRequest::decode(body).map_err(BadMessage::from)?;
        let batch = codec::batch_from(part(asked.batch, "a batch")?)?;
        let (result, index) = match self.way().propose(Arc::new(batch)).await {
            Attempt::Committed(index) => (R::Committed, index),
            Attempt::Again => (R::NotLeader, 0),
            Attempt::Stopped => return Err(ServeError::Stopped),
        };
        Ok(pb::SubmitResponse { result: result.into(), index }.encode_to_vec().into())
    }
}
