//! One message of a client as the edge holds it: it can be run by a local owner, or encoded for another node.

use crate::wire::{self, Kind as WireKind};
use bytes::Bytes;
use enfilade_mcp::classify::Modern;
use enfilade_mcp::{Envelope, Id, Kind};
use enfilade_mesh::Message as Payload;
use enfilade_proto::owner as proto;
use enfilade_registry::SessionId;
use enfilade_session::owner::{Caller, HeaderLookup, Legacy, Owner, Reply};

/// Who asks what.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) caller: Caller<'a>,
    pub(crate) what: What<'a>,
}

/// What is asked: the methods of [`Owner`], as data.
#[derive(Clone, Copy)]
pub(crate) enum What<'a> {
    Modern { request: &'a Envelope<'a>, meta: &'a Modern<'a>, headers: &'a dyn HeaderLookup },
    Initialize { request: &'a Envelope<'a> },
    Legacy { session: SessionId, message: Legacy<'a> },
    OpenStream { session: SessionId, last_event_id: Option<&'a str> },
    End { session: SessionId },
}

impl<'a> Ask<'a> {
    /// Lets `owner` do it.
    pub(crate) async fn run(self, owner: &dyn Owner) -> Reply {
        let caller = self.caller;
        match self.what {
            What::Modern { request, meta, headers } => owner.modern(caller, request, meta, headers).await,
            What::Initialize { request } => owner.initialize(caller, request).await,
            What::Legacy { session, message } => owner.legacy(caller, session, message).await,
            What::OpenStream { session, last_event_id } => owner.open_stream(caller, session, last_event_id).await,
            What::End { session } => owner.end(caller, session).await,
        }
    }

    fn session(&self) -> Option<SessionId> {
        match self.what {
            What::Modern { .. } | What::Initialize { .. } => None,
            What::Legacy { session, .. } | What::OpenStream { session, .. } | What::End { session } => Some(session),
        }
    }

    /// The id of the one request that must be answered.
    pub(crate) fn id(&self) -> Option<&'a Id> {
        let envelope = match self.what {
            What::Modern { request, .. } | What::Initialize { request } => request,
            What::Legacy { message: Legacy::One { envelope, .. }, .. } => envelope,
            What::Legacy { message: Legacy::Batch(_), .. } | What::OpenStream { .. } | What::End { .. } => return None,
        };
        match &envelope.kind {
            Kind::Request(request) => Some(&request.id),
            Kind::Notification(_) | Kind::Response(_) => None,
        }
    }

    /// The same, after an answer was lost.
    pub(crate) fn again(mut self) -> Self {
        if let What::Legacy { message: Legacy::One { again, .. }, .. } = &mut self.what {
            *again = true;
        }
        self
    }

    /// As the first payload of an exchange. `server` is the virtual server's name.
    pub(crate) fn encode(&self, server: &str) -> Payload {
        let mut head = proto::Ask {
            server: server.to_owned(),
            principal: self.caller.principal.to_owned(),
            session: self.session().map(|session| session.to_string()).unwrap_or_default(),
            ..proto::Ask::default()
        };
        let (kind, message) = match self.what {
            What::Modern { request, headers, .. } => {
                head.framed = !headers.are_sent();
                headers.params(&mut |name, value| {
                    head.params.push(proto::Param { name: name.to_owned(), value: value.to_owned() });
                });
                (WireKind::Modern, request.shared_text())
            }
            What::Initialize { request } => (WireKind::Initialize, request.shared_text()),
            What::Legacy { message: Legacy::One { envelope, version, again }, .. } => {
                head.version = version.map(str::to_owned);
                head.again = again;
                (WireKind::Legacy, envelope.shared_text())
            }
            What::Legacy { message: Legacy::Batch(text), .. } => {
                (WireKind::Batch, Bytes::copy_from_slice(text.as_bytes()))
            }
            What::OpenStream { last_event_id, .. } => {
                head.last_event_id = last_event_id.map(str::to_owned);
                (WireKind::OpenStream, Bytes::new())
            }
            What::End { .. } => (WireKind::End, Bytes::new()),
        };
        head.set_kind(kind);
        wire::ask(&head, message)
    }
}
