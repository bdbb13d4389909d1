//! What an edge counts, and the metrics that are made of it.

use crate::config::Config;
use crate::entrance::{Entrance, Full};
use crate::load::Load;
use crate::ticket::{Accounts, Outcome, Reason};
use enfilade_runtime::Limit;
use enfilade_runtime::Pressure;
use enfilade_runtime::metrics::{Family, Page};
use std::sync::Arc;
use std::time::Duration;

const REQUESTS: Family = Family::counter(
    "enfilade_edge_requests_total",
    "Requests and other messages of clients that came in: over HTTP one each, over WebSocket one for each message.",
);
const ENDED: Family =
    Family::counter("enfilade_edge_requests_ended_total", "How they ended; each ends once.").by("outcome");
const REFUSED: Family =
    Family::counter("enfilade_edge_requests_refused_total", "Those that were not executed, by why.").by("reason");
const IN_FLIGHT: Family = Family::gauge("enfilade_edge_requests_in_flight", "Those that have not ended.");
const IN_FLIGHT_MAX: Family =
    Family::gauge("enfilade_edge_requests_in_flight_limit", "Requests in flight from which on others are refused.");
const CALLS_MAX: Family = Family::gauge(
    "enfilade_edge_calls_in_flight_limit",
    "Calls in flight from which on others are refused because the node's own work waits for too long; 0 where none are.",
);
const WAIT: Family = Family::gauge(
    "enfilade_edge_own_wait_seconds",
    "How long the node's own work had to wait for its turn when that was measured last; measured with own_wait_max_ms.",
);
const CONNECTIONS: Family = Family::gauge("enfilade_edge_connections", "Connections of clients.");
const CONNECTIONS_MAX: Family =
    Family::gauge("enfilade_edge_connections_limit", "Connections from which on others are refused.");
const CONNECTIONS_REFUSED: Family = Family::counter(
    "enfilade_edge_connections_refused_total",
    "Connections of clients that did not come in, by what was used up.",
)
.by("reason");
const STREAMS: Family =
    Family::gauge("enfilade_edge_streams", "Streams that stay open, by what carries them.").by("transport");
const MESSAGES: Family = Family::gauge(
    "enfilade_edge_messages_bytes",
    "Bytes of clients' messages whose answers have not begun, and of large messages that other nodes forwarded.",
);
const MESSAGES_MAX: Family =
    Family::gauge("enfilade_edge_messages_limit_bytes", "Bytes from which on other messages are refused.");
const ANSWERS: Family = Family::gauge(
    "enfilade_edge_answers_bytes",
    "Bytes of large answers from when upstreams send them until clients have taken them; no more than of messages.",
);

/// Every metric of this crate.
pub const FAMILIES: [&Family; 14] = [
    &REQUESTS,
    &ENDED,
    &REFUSED,
    &IN_FLIGHT,
    &IN_FLIGHT_MAX,
    &CALLS_MAX,
    &WAIT,
    &CONNECTIONS,
    &CONNECTIONS_MAX,
    &CONNECTIONS_REFUSED,
    &STREAMS,
    &MESSAGES,
    &MESSAGES_MAX,
    &ANSWERS,
];

/// What an edge counts, and what it has; clones share it.
#[derive(Debug, Clone)]
pub struct Figures {
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) pressure: Pressure,
    pub(crate) load: Load,
    pub(crate) requests: Limit,
    pub(crate) messages: Limit,
    /// Apart from messages: answers that nobody takes keep no message out.
    pub(crate) answers: Limit,
    /// Streams of server-sent events that stay open.
    pub(crate) streams: Limit,
    pub(crate) websockets: Limit,
}

impl Figures {
    /// Those of an edge that has not begun, in a process whose memory is measured so.
    #[must_use]
    pub fn new(config: &Config, pressure: Pressure) -> Self {
        Self {
            accounts: Arc::default(),
            entrance: Arc::new(Entrance::new(config, pressure.clone())),
            requests: Limit::new(config.requests_in_flight_max),
            messages: Limit::of_memory(config.messages_bytes_max, pressure.clone()),
            answers: Limit::of_memory(config.answers_bytes_max(), pressure.clone()),
            load: Load::new((config.own_wait_max_ms > 0).then(|| Duration::from_millis(config.own_wait_max_ms))),
            // Connections bound them.
            streams: Limit::new(usize::MAX >> 1),
            websockets: Limit::new(usize::MAX >> 1),
            pressure,
        }
    }

    /// Bytes of messages under way.
    #[must_use]
    pub fn messages(&self) -> Limit {
        self.messages.clone()
    }

    /// Bytes of large answers under way.
    #[must_use]
    pub fn answers(&self) -> Limit {
        self.answers.clone()
    }

    /// Requests that came in, those that ended, by [`Outcome::NAMES`], and those of them that were refused, by [`Reason::ALL`].
    #[must_use]
    pub fn requests(&self) -> (u64, [u64; Outcome::NAMES.len()], [u64; Reason::ALL.len()]) {
        // In this order, so that never more have ended than came in.
        let (refused, ended) = (self.accounts.refused(), self.accounts.ended());
        (self.accounts.entered(), ended, refused)
    }

    /// Writes all of them.
    pub fn write(&self, page: &mut Page) {
        let (entered, ended, refused) = self.requests();
        page.value(&REQUESTS, entered);
        page.values(&ENDED, Outcome::NAMES.into_iter().zip(ended));
        page.values(&REFUSED, Reason::ALL.map(Reason::as_str).into_iter().zip(refused));
        page.value(&IN_FLIGHT, entered.saturating_sub(ended.iter().sum()));
        page.value(&IN_FLIGHT_MAX, self.requests.max());
        page.value(&CALLS_MAX, Some(self.load.bound()).filter(|bound| *bound != usize::MAX).unwrap_or_default());
        page.value(&WAIT, self.load.wait().as_secs_f64());
        page.value(&CONNECTIONS, self.entrance.connections.now());
        page.value(&CONNECTIONS_MAX, self.entrance.connections.max());
        page.values(&CONNECTIONS_REFUSED, Full::ALL.map(Full::as_str).into_iter().zip(self.entrance.refusals()));
        page.values(&STREAMS, [("sse", self.streams.now()), ("websocket", self.websockets.now())]);
        page.value(&MESSAGES, self.messages.now());
        page.value(&MESSAGES_MAX, self.messages.max());
        page.value(&ANSWERS, self.answers.now());
    }
}
