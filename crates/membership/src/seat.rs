//! What foca takes for a member: a node's identity with what tells two claims to one place apart.
//!
//! Rule: the place that one claims is the node's id. A seed is an address whose node is not known yet:
//! it is only ever written to, so whoever reads the packet may take it for himself.

use std::net::SocketAddr;

use bytes::{Buf, BufMut};
use enfilade_registry::NodeId;
use foca::{Codec, Header, Member, Message, PostcardCodec};
use serde::{Deserialize, Serialize};

use crate::Identity;

/// A member, or an address where one is expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Seat {
    /// Nobody in particular: whoever listens there.
    Seed(SocketAddr),
    /// A node.
    Taken(Taken),
}

/// A node's claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub(crate) identity: Identity,
    /// How many times it came back in this run after it had been declared down.
    pub(crate) renewal: u32,
    /// When its run began, ms since 1970 by its own clock. Only settles which of two nodes has an address now.
    pub(crate) started_ms: u64,
}

impl Taken {
    fn order(&self) -> (u64, u32) {
        (self.identity.run.generation.0, self.renewal)
    }

    /// The claim to come back with.
    pub(crate) fn renewed(&self) -> Taken {
        Taken { renewal: self.renewal.saturating_add(1), ..self.clone() }
    }
}

impl Seat {
    /// Where packets for it go.
    pub(crate) fn socket(&self) -> SocketAddr {
        match self {
            Seat::Seed(address) => *address,
            Seat::Taken(taken) => taken.identity.gossip,
        }
    }

    pub(crate) fn taken(&self) -> Option<&Taken> {
        match self {
            Seat::Seed(_) => None,
            Seat::Taken(taken) => Some(taken),
        }
    }
}

/// The place that is claimed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Anyone,
    Node(NodeId),
}

impl PartialEq for Place {
    fn eq(&self, other: &Place) -> bool {
        match (self, other) {
            (Place::Node(one), Place::Node(two)) => one == two,
            _ => true,
        }
    }
}

impl foca::Identity for Seat {
    type Addr = Place;

    // Coming back is the driver's: it waits between two attempts, while foca would answer each "you are down" at
    // once, and two runs of one node would keep the network busy with each other.
    fn renew(&self) -> Option<Seat> {
        None
    }

    fn addr(&self) -> Place {
        match self {
            Seat::Seed(_) => Place::Anyone,
            Seat::Taken(taken) => Place::Node(taken.identity.run.node),
        }
    }

    fn win_addr_conflict(&self, adversary: &Seat) -> bool {
        match (self, adversary) {
            (Seat::Taken(mine), Seat::Taken(other)) => mine.order() > other.order(),
            (mine, _) => matches!(mine, Seat::Taken(_)),
        }
    }
}

/// How packets are written. A seed where a node must stand is refused: it would match every member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire;

/// Why a packet that opened was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error(transparent)]
    Postcard(#[from] postcard::Error),
    #[error("an address where a node must stand")]
    SeedAsNode,
}

fn is_node(seat: &Seat) -> Result<(), WireError> {
    seat.taken().map(|_| ()).ok_or(WireError::SeedAsNode)
}

impl Codec<Seat> for Wire {
    type Error = WireError;

    fn encode_header(&mut self, header: &Header<Seat>, buf: impl BufMut) -> Result<(), WireError> {
        Ok(PostcardCodec.encode_header(header, buf)?)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Seat>, WireError> {
        let header: Header<Seat> = PostcardCodec.decode_header(buf)?;
        is_node(&header.src)?;
        match &header.message {
            Message::PingReq { target: named, .. }
            | Message::IndirectPing { origin: named, .. }
            | Message::IndirectAck { target: named, .. }
            | Message::ForwardedAck { origin: named, .. } => is_node(named)?,
            _ => {}
        }
        Ok(header)
    }

    fn encode_member(&mut self, member: &Member<Seat>, buf: impl BufMut) -> Result<(), WireError> {
        Ok(PostcardCodec.encode_member(member, buf)?)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Seat>, WireError> {
        let member: Member<Seat> = PostcardCodec.decode_member(buf)?;
        is_node(member.id())?;
        Ok(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_registry::{Generation, Roles, Run};
    use foca::Identity as _;

    fn seat(node: u64, generation: u64, renewal: u32) -> Seat {
        let run = Run { node: NodeId(node), generation: Generation(generation) };
        let gossip = SocketAddr::from(([127, 0, 0, 1], 7000));
        let identity = Identity { run, name: "n".into(), gossip, link: "127.0.0.1:7100".into(), roles: Roles::ALL };
        Seat::Taken(Taken { identity, renewal, started_ms: 0 })
    }

    #[test]
    fn of_two_claims_the_later_run_wins_then_the_later_return() {
        assert!(seat(1, 2, 0).win_addr_conflict(&seat(1, 1, 9)));
        assert!(!seat(1, 1, 9).win_addr_conflict(&seat(1, 2, 0)));
        assert!(seat(1, 1, 1).win_addr_conflict(&seat(1, 1, 0)));
        assert!(seat(1, 1, 0).addr() == seat(1, 7, 0).addr());
        assert!(seat(1, 1, 0).addr() != seat(2, 1, 0).addr());
    }

    #[test]
    fn a_seed_is_read_as_destination_only() -> Result<(), Box<dyn std::error::Error>> {
        let seed = Seat::Seed(SocketAddr::from(([127, 0, 0, 1], 7000)));
        let coded = |src: &Seat, dst: &Seat| {
            let (src, dst) = (src.clone(), dst.clone());
            let mut bytes = Vec::new();
            Wire.encode_header(&Header { src, src_incarnation: 0, dst, message: Message::Announce }, &mut bytes)?;
            Wire.decode_header(&bytes[..])
        };
        assert_eq!(coded(&seat(1, 1, 0), &seed)?.dst, seed);
        assert!(matches!(coded(&seed, &seat(1, 1, 0)), Err(WireError::SeedAsNode)));
        let mut bytes = Vec::new();
        Wire.encode_member(&Member::alive(seed), &mut bytes)?;
        assert!(matches!(Wire.decode_member(&bytes[..]), Err(WireError::SeedAsNode)));
        Ok(())
    }
}
