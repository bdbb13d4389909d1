//! All that can happen in the world, and the messages that nodes, clients and upstreams send each other.

use std::sync::Arc;

use enfilade_registry::copy::{CopyAnswer, CopyMessage, Lane};
use enfilade_registry::duty::PeerMessage;
use enfilade_registry::{Ack, Command, Heartbeat, NotServed, Run, Slot, Term};

use crate::call::{Call, CallId, EventId, Outcome, Piece};
use crate::clock::Micros;
use crate::faults::Fault;
use crate::node::LogEntry;
use crate::raft::{RaftMessage, Ticket};

pub(crate) enum Event {
    /// Something for the process of a node in one of its lives.
    Input {
        node: usize,
        life: u64,
        input: Input,
    },
    /// A frame arrives, if its connection still works.
    Frame {
        from: usize,
        to: usize,
        connection: u64,
        frame: Frame,
    },
    /// An end learns that its connection is gone.
    Lost {
        node: usize,
        peer: usize,
        connection: u64,
    },
    /// A stalled process goes on.
    Wake {
        node: usize,
    },
    /// A node is started again.
    Restart {
        node: usize,
    },
    Fault(Fault),
    /// Pairs without a link connect again.
    Connect,
    /// An upstream gets a call.
    Upstream {
        from: Sent,
        term: Term,
        call: Call,
    },
    Client(ClientEvent),
    /// The registry's clients do their next thing.
    Register {
        client: usize,
    },
    /// An effect was made by a process that had been suspended.
    Acted {
        from: Sent,
        slot: Slot,
        term: Term,
        run: Run,
    },
    /// From here on guards are counted.
    Arm,
    /// Faults end.
    Calm,
}

/// By which process something was sent, and when: a process that was suspended may have ended before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) node: usize,
    pub(crate) life: u64,
    pub(crate) at: Micros,
}

/// Where an exchange was opened: the node, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opener {
    pub(crate) node: usize,
    pub(crate) exchange: u64,
    pub(crate) call: CallId,
}

/// What a node's process gets.
#[derive(Clone)]
pub(crate) enum Input {
    Packet {
        from: usize,
        packet: Packet,
    },
    Frame {
        from: usize,
        frame: Frame,
    },
    LinkLost {
        peer: usize,
    },
    LinkUp {
        peer: usize,
    },
    Timer(Timer),
    /// A copy that was begun is to be told more of what there is.
    Tell {
        slot: Slot,
        lane: Lane,
    },
    /// An upstream says something about a call that this process sent it.
    Upstream {
        call: Call,
        term: Term,
        piece: Piece,
    },
    /// A client sends a call, or resumes one after the last event that it has.
    Client {
        call: Call,
        attempt: u64,
        resume: Option<EventId>,
    },
    /// A client of the registry.
    Registry {
        client: usize,
        ask: RegistryAsk,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Timer {
    /// Elections, leases, copies, deadlines: looked at often.
    Tick,
    /// Raft's heartbeat.
    Heartbeat,
    /// The owner's heartbeat.
    Beat,
    /// Applies what has been committed meanwhile.
    Apply,
}

#[derive(Clone, Debug)]
pub(crate) enum Packet {
    Raft(RaftMessage),
    Beat { beat: Heartbeat },
    Ack(Ack),
    Submit { ticket: Ticket, command: Arc<Command> },
    ReadIndex { number: u64 },
    Index { number: u64, index: u64 },
}

/// A client of the registry, that reads and writes one register.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RegistryAsk {
    Write { operation: usize, value: u64 },
    Read { operation: usize },
}

#[derive(Clone, Debug)]
pub(crate) enum Frame {
    /// Edge to owner: a call.
    Call { slot: Slot, term: Term, call: Call, exchange: u64 },
    /// Edge to owner: goes on with a call that was sent before, after the last event that it has.
    Attach { slot: Slot, term: Term, call: Call, after: Option<EventId>, exchange: u64 },
    /// Owner to edge.
    Reply { slot: Slot, term: Term, to: Opener, reply: Reply },
    /// Between the two sides of a move.
    Peer { slot: Slot, from: Run, message: PeerMessage },
    /// Owner to the holder of a copy.
    Copy { message: CopyMessage<LogEntry> },
    /// The other way.
    CopyAnswer { answer: CopyAnswer },
    /// From the finisher of a call to the slot's owner.
    Finish { slot: Slot, call: Call, piece: Piece, exchange: u64 },
}

#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Piece {
        piece: Piece,
        id: Option<EventId>,
    },
    /// Nothing was executed.
    NotServed(NotServed),
    /// The owner ends the exchange without an answer.
    Reset,
    /// The owner does not know the call.
    NoSuchCall,
}

pub(crate) enum ClientEvent {
    /// A session's client makes its next call.
    Next {
        session: usize,
    },
    /// An edge says something to the client of a call, on the connection with this number.
    Said {
        from: Sent,
        call: CallId,
        attempt: u64,
        said: Said,
    },
    /// The connection of a call breaks.
    Broken {
        call: CallId,
        attempt: u64,
    },
    /// The client of a call connects to an edge again.
    Resume {
        call: CallId,
    },
    Deadline {
        call: CallId,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Said {
    Piece {
        piece: Piece,
        id: Option<EventId>,
    },
    Outcome(Outcome),
    /// The stream ends without a result: who has an event id may resume it.
    StreamEnd,
}
