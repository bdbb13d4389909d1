//! The sessions of a worker that can be called.

use std::rc::Rc;

use rand::Rng;

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
}

#[derive(Default)]
pub(super) struct Sessions {
    legacy: Vec<Rc<str>>,
    sockets: Vec<Rc<Socket>>,
    modern: usize,
}

impl Sessions {
    pub(super) fn add(&mut self, client: Client) {
        match client {
            Client::Legacy(id) => self.legacy.push(id),
            Client::Socket(socket) => self.sockets.push(socket),
            Client::Modern => self.modern += 1,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.with_id() + self.modern
    }

    fn with_id(&self) -> usize {
        self.legacy.len() + self.sockets.len()
    }

    /// Any of them.
    pub(super) fn any(&self) -> Option<Client> {
        self.below(self.len())
    }

    /// Any that has a session.
    pub(super) fn any_with_id(&self) -> Option<Client> {
        self.below(self.with_id())
    }

    /// All that have a session.
    pub(super) fn all_with_id(&self) -> Vec<Client> {
        (0..self.with_id()).map(|index| self.at(index)).collect()
    }

    fn below(&self, count: usize) -> Option<Client> {
        (count > 0).then(|| self.at(rand::rng().random_range(0..count)))
    }

    fn at(&self, index: usize) -> Client {
        if let Some(id) = self.legacy.get(index) {
            return Client::Legacy(Rc::clone(id));
        }
        match self.sockets.get(index - self.legacy.len()) {
            Some(socket) => Client::Socket(Rc::clone(socket)),
            None => Client::Modern,
        }
    }
}
