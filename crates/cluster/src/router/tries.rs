//! The attempts of one message, until it has its one outcome. What is done after a failure says [`EdgeRule`].

use super::hold::Reasons;
use super::{Attempt, Router, said};
use crate::ask::{Ask, What};
use crate::map::Map;
use enfilade_mesh::Message as Payload;
use enfilade_registry::NodeId;
use enfilade_registry::edge_rule::{EdgeRule, Verdict};
use enfilade_session::owner::{Legacy, Reply};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub(super) struct Tries<'a> {
    router: &'a Router,
    ask: Ask<'a>,
    message: Option<Payload>,
    /// Since the first failure.
    failing: Option<Failing>,
}

/// What most messages never need.
struct Failing {
    since: Instant,
    rule: EdgeRule,
    reasons: Reasons<Arc<Map>, u64, Vec<NodeId>>,
}

impl Failing {
    /// What changed while the first attempt was under way is no reason any more: the first pause is short.
    fn new(router: &Router, ask: Ask<'_>) -> Self {
        let parts = &router.parts;
        let (map, slots, links) = (parts.maps.watch(), parts.slots.changed(), parts.doors.links());
        let mut reasons = Reasons { map, slots, links };
        reasons.forget();
        Self { since: Instant::now(), rule: EdgeRule::new(0, router.is_safe(ask), None, &parts.timing), reasons }
    }
}

impl<'a> Tries<'a> {
    pub(super) fn new(router: &'a Router, ask: Ask<'a>) -> Self {
        Self { router, ask, message: None, failing: None }
    }

    /// What is to be asked now.
    pub(super) fn ask(&self) -> Ask<'a> {
        self.ask
    }

    /// The encoded message; encoded once.
    pub(super) fn message(&mut self) -> Payload {
        let servers = &self.router.parts.servers;
        let server = servers.get(self.ask.caller.server.0).map_or("", String::as_str);
        self.message.get_or_insert_with(|| self.ask.encode(server)).clone()
    }

    /// The reply, or nothing when it is time for another attempt.
    pub(super) async fn after(&mut self, attempt: Attempt) -> Option<Reply> {
        let failure = match attempt {
            Attempt::Done(reply) => return Some(self.end_is_idempotent(reply)),
            Attempt::Failed(failure) => failure,
        };
        let (router, ask) = (self.router, self.ask);
        let Failing { since, rule, reasons } = self.failing.get_or_insert_with(|| Failing::new(router, ask));
        let now_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        match rule.failed(now_ms, failure) {
            Verdict::Again { wait_ms } => {
                if rule.may_have_run() {
                    (self.ask, self.message) = (ask.again(), None);
                }
                reasons.wait(Duration::from_millis(wait_ms)).await;
                None
            }
            Verdict::Unavailable | Verdict::Deadline { may_have_run: false } => Some(said::nobody(ask.id())),
            Verdict::Unknown | Verdict::EndStream | Verdict::Deadline { may_have_run: true } => Some(self.unknown()),
        }
    }

    fn unknown(&self) -> Reply {
        match self.ask.what {
            What::Legacy { message: Legacy::One { .. }, .. } if self.ask.id().is_none() => said::unheard(),
            // No request has an answer to wait for: it may be done again, and until then it is not said to be done.
            What::End { .. } | What::OpenStream { .. } => said::nobody(None),
            _ => said::unknown(self.ask.id()),
        }
    }

    /// A session that a lost DELETE had ended is not found by the next one: it is ended all the same.
    fn end_is_idempotent(&self, reply: Reply) -> Reply {
        let repeated = self.failing.as_ref().is_some_and(|failing| failing.rule.may_have_run());
        match (&self.ask.what, &reply) {
            (What::End { .. }, Reply::Message { status: 404, .. }) if repeated => Reply::Status(200),
            _ => reply,
        }
    }
}
