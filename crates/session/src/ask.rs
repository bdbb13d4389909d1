//! Requests of the gateway's own to an upstream: pings, lists, log levels, subscriptions. One question, one answer.

use bytes::Bytes;
use enfilade_mcp::envelope::{Envelope, Kind, Outcome};
use enfilade_mcp::{Era, Version, json};
use enfilade_upstream::{Call, CallError, Exchange, Peer};
use std::time::Duration;

pub(crate) use enfilade_mcp::meta::IMPLEMENTATION;

/// Why a question has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// The upstream answered with an error object.
    #[error("the upstream refused: {0}")]
    Refused(String),
    /// The upstream did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The upstream did not answer in time.
    #[error("the upstream did not answer in time")]
    Late,
}

impl AskError {
    /// The code of the error that the upstream answered with.
    pub(crate) fn code(&self) -> Option<i64> {
        match self {
            Self::Refused(error) => json::get(error, "code").and_then(|code| code.parse().ok()),
            _ => None,
        }
    }
}

/// [`params_of`] without capabilities.
pub(crate) fn params(era: Era, members: &str) -> String {
    params_of(era, members, "{}")
}

/// `params` with what every modern request must carry: the members given (JSON text without braces) and `_meta` with
/// the capabilities of whom it is asked for.
pub(crate) fn params_of(era: Era, members: &str, capabilities: &str) -> String {
    if era == Era::Legacy {
        return format!("{{{members}}}");
    }
    let comma = if members.is_empty() { "" } else { "," };
    format!(
        r#"{{{members}{comma}"_meta":{{"{}":"{}","{}":{IMPLEMENTATION},"{}":{capabilities}}}}}"#,
        enfilade_mcp::meta::VERSION,
        Version::MODERN,
        enfilade_mcp::meta::CLIENT_INFO,
        enfilade_mcp::meta::CLIENT_CAPABILITIES,
    )
}

/// The text of a request.
pub(crate) fn request(id: u64, method: &str, params: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#).into()
}

/// Asks and waits for the result, at most `within`.
pub(crate) async fn ask(
    peer: &dyn Peer,
    method: &str,
    params: &str,
    name: Option<&str>,
    within: Duration,
) -> Result<String, AskError> {
    let id = peer.next_id();
    let message = request(id, method, params);
    let call = Call { id, message, method, name, headers: Vec::new(), progress_token: None };
    match tokio::time::timeout(within, answer(peer, call)).await {
        Ok(answer) => result_of(&answer?),
        Err(_) => {
            peer.cancel(id, "deadline").await;
            Err(AskError::Late)
        }
    }
}

async fn answer(peer: &dyn Peer, call: Call<'_>) -> Result<Bytes, CallError> {
    let mut messages = match peer.call(call).await? {
        Exchange::Answer(answer) => return Ok(answer),
        Exchange::Stream(messages) => messages,
    };
    while let Some(message) = messages.next().await {
        let message = message?;
        if matches!(Envelope::parse(&message), Ok(Envelope { kind: Kind::Response(_), .. })) {
            return Ok(message);
        }
    }
    Err(CallError::Lost)
}

fn result_of(answer: &[u8]) -> Result<String, AskError> {
    match Envelope::parse(answer) {
        Ok(Envelope { kind: Kind::Response(response), .. }) => match response.outcome {
            Outcome::Result(result) => Ok(result.to_owned()),
            Outcome::Error(error) => Err(AskError::Refused(error.to_owned())),
        },
        _ => Err(CallError::Protocol("the answer is not a JSON-RPC response").into()),
    }
}
