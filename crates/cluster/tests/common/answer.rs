//! What a client gets, to its end.

use bytes::Bytes;
use enfilade_mcp::json;
use enfilade_session::owner::Reply;
use enfilade_session::stream::{Event, EventId};

/// The last word on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub text: String,
    /// The ids of its events.
    pub ids: Vec<EventId>,
    /// All that came.
    pub texts: Vec<String>,
}

impl Answer {
    pub(super) async fn of(reply: Reply) -> Self {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        match reply {
            Reply::Message { status, body, .. } => Self { status, text: text(&body), ..Self::empty() },
            Reply::Status(status) => Self { status, ..Self::empty() },
            Reply::Accepted => Self { status: 202, ..Self::empty() },
            Reply::Events { mut stream, .. } => {
                let mut answer = Self::empty();
                while let Some(Event { id, data }) = stream.next().await {
                    answer.ids.extend(id);
                    answer.text = text(&data);
                    answer.texts.push(answer.text.clone());
                }
                answer
            }
            Reply::NotServed(_) | Reply::Lost => panic!("a router never says {reply:?}"),
        }
    }

    fn empty() -> Self {
        Self { status: 200, text: String::new(), ids: Vec::new(), texts: Vec::new() }
    }

    pub fn content(&self) -> Option<String> {
        let result = json::get(&self.text, "result")?;
        let value: serde_json::Value = serde_json::from_str(result).ok()?;
        Some(value["content"][0]["text"].as_str()?.to_owned())
    }

    pub fn is_unknown(&self) -> bool {
        self.text.contains("outcome is unknown")
    }
}
