//! The sessions of a worker that can be called.

use std::rc::Rc;

use rand::Rng;
use tokio::task::AbortHandle;

use super::socket::Socket;

/// Kinds of clients, in the order of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Legacy,
    Modern,
    WebSocket,
}

/// Number of kinds.
pub(super) const KINDS: usize = 3;

/// One client.
#[derive(Clone)]
pub(super) enum Client {
    /// A session by its id.
    Legacy(Rc<str>),
    /// It has no id: everything is in its requests.
    Modern,
    /// A session on a WebSocket.
    Socket(Rc<Socket>),
}

impl Client {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Client::Legacy(_) => Kind::Legacy,
            Client::Modern => Kind::Modern,
            Client::Socket(_) => Kind::WebSocket,
        }
    }

    /// Of its session, if it has one.
    pub(super) fn id(&self) -> Option<Rc<str>> {
        match self {
            Client::Legacy(id) => Some(Rc::clone(id)),
            Client::Socket(socket) => Some(socket.id()),
            Client::Modern => None,
        }
    }

    /// How many hold its session: whoever has this, its stream, and the requests under way.
    pub(super) fn holders(&self) -> usize {
        match self {
            Client::Legacy(id) => Rc::strong_count(id),
            Client::Socket(socket) => Rc::strong_count(socket),
            Client::Modern => 0,
        }
    }
}

/// A client whose stream is held.
pub(super) struct Member {
    pub(super) client: Client,
    /// It hears of the scenario's resource.
    pub(super) subscribes: bool,
    /// Ends the task that holds its stream.
    pub(super) held: AbortHandle,
}

#[derive(Default)]
pub(super) struct Sessions {
    with_id: Vec<Member>,
    modern: Vec<Member>,
}

impl Sessions {
    pub(super) fn add(&mut self, member: Member) {
        match member.client {
            Client::Modern => self.modern.push(member),
            Client::Legacy(_) | Client::Socket(_) => self.with_id.push(member),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.with_id.len() + self.modern.len()
    }

    /// Any of them.
    pub(super) fn any(&self) -> Option<Client> {
        let index = below(self.len())?;
        // Clients without an id are all alike.
        Some(self.with_id.get(index).map_or(Client::Modern, |member| member.client.clone()))
    }

    /// Any that has a session.
    pub(super) fn any_with_id(&self) -> Option<Client> {
        below(self.with_id.len()).map(|index| self.with_id[index].client.clone())
    }

    /// Takes any of them out: no further request is its.
    pub(super) fn take_any(&mut self) -> Option<Member> {
        let index = below(self.len())?;
        let sessions = self.with_id.len();
        Some(if index < sessions { self.with_id.swap_remove(index) } else { self.modern.swap_remove(index - sessions) })
    }

    /// All that have a session.
    pub(super) fn all_with_id(&self) -> Vec<Client> {
        self.with_id.iter().map(|member| member.client.clone()).collect()
    }
}

fn below(count: usize) -> Option<usize> {
    (count > 0).then(|| rand::rng().random_range(0..count))
}
