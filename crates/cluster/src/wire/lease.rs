//! Heartbeats of owners and what the leader says to them.

use super::Unreadable;
use bytes::Bytes;
use enfilade_proto::owner as proto;
use enfilade_proto::owner::heartbeat_reply::Reply as Wire;
use enfilade_registry::{Ack, Generation, Heartbeat, NodeId, Run};
use prost::Message;

/// What became of a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeartbeatAnswer {
    /// The lease goes on.
    Ack(Ack),
    /// This node does not lead, or could not prove it; who does, as far as it knows.
    NotLeader(Option<NodeId>),
    /// The lease is not renewed.
    Refused(String),
}

/// A heartbeat.
pub(crate) fn encode_heartbeat(beat: &Heartbeat) -> Bytes {
    let unreachable = beat.unreachable.iter().map(|node| node.0).collect();
    let Run { node, generation } = beat.run;
    let (node, generation, seq, fenced) = (node.0, generation.0, beat.seq, beat.fenced);
    let wire = proto::Heartbeat { node, generation, seq, fenced, unreachable };
    wire.encode_to_vec().into()
}

/// Reads what [`encode_heartbeat`] wrote.
pub(crate) fn decode_heartbeat(bytes: Bytes) -> Result<Heartbeat, Unreadable> {
    let wire = proto::Heartbeat::decode(bytes)?;
    let run = Run { node: NodeId(wire.node), generation: Generation(wire.generation) };
    let unreachable = wire.unreachable.into_iter().map(NodeId).collect();
    Ok(Heartbeat { run, seq: wire.seq, fenced: wire.fenced, unreachable })
}

/// The leader's answer.
pub(crate) fn encode_answer(answer: &HeartbeatAnswer) -> Bytes {
    let reply = match answer {
        HeartbeatAnswer::Ack(ack) => Wire::Ack(proto::Ack { seq: ack.seq, applied: ack.applied }),
        HeartbeatAnswer::NotLeader(leader) => Wire::NotLeader(leader.map_or(0, |node| node.0)),
        HeartbeatAnswer::Refused(why) => Wire::Refused(why.clone()),
    };
    proto::HeartbeatReply { reply: Some(reply) }.encode_to_vec().into()
}

/// Reads what [`encode_answer`] wrote.
pub(crate) fn decode_answer(bytes: Bytes) -> Result<HeartbeatAnswer, Unreadable> {
    let reply = proto::HeartbeatReply::decode(bytes)?.reply.ok_or(Unreadable("an empty answer to a heartbeat"))?;
    Ok(match reply {
        Wire::Ack(ack) => HeartbeatAnswer::Ack(Ack { seq: ack.seq, applied: ack.applied }),
        Wire::NotLeader(node) => HeartbeatAnswer::NotLeader((node != 0).then_some(NodeId(node))),
        Wire::Refused(why) => HeartbeatAnswer::Refused(why),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_and_answers_go_there_and_back() {
        let run = Run { node: NodeId(u64::MAX), generation: Generation(3) };
        let beat = Heartbeat { run, seq: 7, fenced: true, unreachable: vec![NodeId(1), NodeId(2)] };
        assert_eq!(decode_heartbeat(encode_heartbeat(&beat)), Ok(beat));
        for answer in [
            HeartbeatAnswer::Ack(Ack { seq: 7, applied: 8 }),
            HeartbeatAnswer::NotLeader(None),
            HeartbeatAnswer::NotLeader(Some(NodeId(4))),
            HeartbeatAnswer::Refused("why".into()),
        ] {
            assert_eq!(decode_answer(encode_answer(&answer)), Ok(answer));
        }
        assert!(decode_answer(Bytes::new()).is_err());
    }
}
