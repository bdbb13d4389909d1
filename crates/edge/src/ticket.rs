//! What became of every request: each is counted when it comes in, and once more when it ends. A ticket that is dropped
//! without a word stands for a client that went away, so none is forgotten: in = ends + in flight.

use crate::load::Place;
use bytes::Bytes;
use enfilade_mcp::json;
use enfilade_runtime::Permit;
use http::StatusCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, with a result or an error of whoever it was for; or taken, where no answer is due.
    Answered,
    /// It was not executed, for this reason.
    Refused(Reason),
    /// Its stream ended without an answer: the client had cancelled it, ended its session, or reads on elsewhere.
    Cancelled,
    /// It did not arrive as a whole in time.
    Late,
    /// What came of it is not known: who ran it was lost.
    Unknown,
    /// The client went away before it was answered.
    ClientGone,
}

/// Why a request was not executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It could not be one: its headers, its JSON, its session.
    Invalid,
    /// `requests_in_flight_max` is reached.
    Requests,
    /// `messages_bytes_max` is reached.
    Messages,
    /// The node is stopped.
    Stopping,
    /// Whoever owns the session says so: it is not served now, or there are too many.
    Owner,
    /// Memory is short.
    Memory,
    /// The node's own work waits for too long.
    Overload,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Invalid, Self::Requests, Self::Messages, Self::Stopping, Self::Owner, Self::Memory, Self::Overload];

    /// The value of the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Requests => "requests",
            Self::Messages => "messages",
            Self::Stopping => "stopping",
            Self::Owner => "owner",
            Self::Memory => "memory",
            Self::Overload => "overload",
        }
    }
}

impl Outcome {
    /// Values of the label, in the order of [`Self::index`].
    pub const NAMES: [&'static str; 6] = ["answered", "refused", "cancelled", "late", "unknown", "client_gone"];

    fn index(self) -> usize {
        match self {
            Self::Answered => 0,
            Self::Refused(_) => 1,
            Self::Cancelled => 2,
            Self::Late => 3,
            Self::Unknown => 4,
            Self::ClientGone => 5,
        }
    }

    /// What the status of an answer says that the owner gave.
    pub(crate) fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Self::Refused(Reason::Owner),
            StatusCode::BAD_GATEWAY => Self::Unknown,
            _ => Self::Answered,
        }
    }
}

/// The numbers. Relaxed: nothing is published with them.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    entered: AtomicU64,
    ended: [AtomicU64; Outcome::NAMES.len()],
    refused: [AtomicU64; Reason::ALL.len()],
}

impl Accounts {
    /// A request came in.
    pub(crate) fn enter(self: &Arc<Self>) -> Ticket {
        self.entered.fetch_add(1, Ordering::Relaxed);
        Ticket { accounts: self.clone(), permit: None, place: None, outcome: Outcome::ClientGone }
    }

    /// Requests that came in.
    pub(crate) fn entered(&self) -> u64 {
        self.entered.load(Ordering::Relaxed)
    }

    /// How many ended how.
    pub(crate) fn ended(&self) -> [u64; Outcome::NAMES.len()] {
        self.ended.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// How many were refused why.
    pub(crate) fn refused(&self) -> [u64; Reason::ALL.len()] {
        self.refused.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

/// One request in flight. Dropped, it has ended, as was said last.
#[derive(Debug)]
pub(crate) struct Ticket {
    accounts: Arc<Accounts>,
    permit: Option<Permit>,
    place: Option<Place>,
    outcome: Outcome,
}

impl Ticket {
    /// Says how it ends.
    pub(crate) fn ends(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Is a call for the node's processors until it ends.
    pub(crate) fn holds(&mut self, place: Option<Place>) {
        self.place = place;
    }

    /// Gives it a place among those in flight; false, and why it ends, where there is none.
    pub(crate) fn takes(&mut self, place: Option<Permit>) -> bool {
        self.permit = place;
        if self.permit.is_none() {
            self.ends(Outcome::Refused(Reason::Requests));
        }
        self.permit.is_some()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Outcome::Refused(reason) = self.outcome {
            self.accounts.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
        }
        self.accounts.ended[self.outcome.index()].fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether a message is a response: of these members it has one of the first two.
fn is_answer(message: &[u8]) -> bool {
    let text = std::str::from_utf8(message).unwrap_or_default();
    let telling =
        json::members(text.trim_ascii()).find(|member| matches!(&*member.name(), "result" | "error" | "method"));
    telling.is_some_and(|member| member.name() != "method")
}

/// What a stream counts as, as long as it is open.
#[derive(Debug)]
pub(crate) enum Counted {
    /// Nothing.
    Nothing,
    /// The rest of a request, and the last message of its stream.
    Request(Box<(Ticket, Bytes)>),
    /// A stream that stays.
    Lasting(#[expect(dead_code, reason = "counts while it lives")] Box<Permit>),
}

impl Counted {
    /// Boxed, and so is what follows: it costs room in every stream.
    pub(crate) fn request(ticket: Ticket) -> Self {
        Self::Request(Box::new((ticket, Bytes::new())))
    }

    pub(crate) fn lasting(permit: Permit) -> Self {
        Self::Lasting(Box::new(permit))
    }

    /// The stream says this.
    pub(crate) fn hears(&mut self, message: &Bytes) {
        if let Self::Request(request) = self {
            request.1 = message.clone();
        }
    }

    /// The stream has ended: the answer is the last message, if any is.
    pub(crate) fn hears_the_end(&mut self) {
        if let Self::Request(request) = self {
            let (ticket, last) = &mut **request;
            ticket.ends(if is_answer(last) { Outcome::Answered } else { Outcome::Cancelled });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ends_once_and_one_that_is_forgotten_was_left() {
        let accounts = Arc::new(Accounts::default());
        let all = [Outcome::Answered, Outcome::Cancelled, Outcome::Late, Outcome::Unknown, Outcome::ClientGone];
        let refused = Reason::ALL.map(Outcome::Refused);
        for outcome in all.into_iter().chain(refused) {
            accounts.enter().ends(outcome);
        }
        let open = accounts.enter();
        assert_eq!(accounts.ended(), [1, 7, 1, 1, 1, 1]);
        assert_eq!((accounts.refused(), accounts.entered()), ([1; 7], 13));
        drop(open);
        assert_eq!(accounts.ended(), [1, 7, 1, 1, 1, 2]);
    }

    #[test]
    fn the_end_of_a_stream_is_judged_by_its_last_message() {
        let accounts = Arc::new(Accounts::default());
        let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#;
        let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"method":"x"}}"#;
        for said in [&[progress, answer][..], &[answer], &[progress], &[], &[""]] {
            let mut counted = Counted::request(accounts.enter());
            said.iter().for_each(|text| counted.hears(&Bytes::from(text.to_string())));
            counted.hears_the_end();
        }
        assert_eq!(accounts.ended(), [2, 0, 3, 0, 0, 0]);
    }
}
