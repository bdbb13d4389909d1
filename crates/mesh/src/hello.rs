//! The greeting: who a node is, and whether the two belong together.

use bytes::Bytes;
use enfilade_proto::mesh::frame::Kind;
use enfilade_proto::mesh::{self as proto, Frame};
use enfilade_registry::{ClusterId, Generation, NodeId, Run};

use crate::Limits;
use crate::link::to_proto;

/// Raised with every change that an older node would not understand.
pub(crate) const PROTOCOL: u32 = 3;

/// Why two nodes have no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stranger {
    #[error("it speaks protocol {0}")]
    Protocol(u32),
    #[error("it belongs to another cluster")]
    Cluster,
    #[error("it did not say who it is")]
    NoName,
    #[error("it is this node itself")]
    Myself,
    #[error("another node answers there")]
    Other,
    #[error("it is an earlier run of the node")]
    Stale,
}

pub(crate) fn cluster_bytes(cluster: Option<ClusterId>) -> Bytes {
    cluster.map(|cluster| Bytes::copy_from_slice(&cluster.0.to_be_bytes())).unwrap_or_default()
}

pub(crate) fn from_proto(run: &proto::Run) -> Run {
    Run { node: NodeId(run.node), generation: Generation(run.generation) }
}

pub(crate) fn hello(me: Run, cluster: Option<ClusterId>, linked: &[NodeId], limits: &Limits) -> Kind {
    Kind::Hello(proto::Hello {
        protocol: PROTOCOL,
        cluster: cluster_bytes(cluster),
        run: Some(to_proto(me)),
        linked: linked.iter().map(|node| node.0).collect(),
        credit_bytes: limits.credit_bytes.max(1),
        message_bytes_max: u32::try_from(limits.message_bytes_max).unwrap_or(u32::MAX),
    })
}

/// The greeting in a link's first frame.
pub(crate) fn greeting(frame: Option<Frame>) -> Option<proto::Hello> {
    match frame?.kind? {
        Kind::Hello(hello) => Some(hello),
        _ => None,
    }
}

/// Whether one who says this belongs here; who it is, and its cluster if it has one.
pub(crate) fn check(
    me: Run,
    mine: Option<ClusterId>,
    protocol: u32,
    cluster: &[u8],
    run: Option<&proto::Run>,
) -> Result<(Run, Option<ClusterId>), Stranger> {
    if protocol != PROTOCOL {
        return Err(Stranger::Protocol(protocol));
    }
    let theirs = match cluster {
        [] => None,
        bytes => Some(ClusterId(u128::from_be_bytes(bytes.try_into().map_err(|_| Stranger::Cluster)?))),
    };
    if mine.zip(theirs).is_some_and(|(mine, theirs)| mine != theirs) {
        return Err(Stranger::Cluster);
    }
    let run = from_proto(run.ok_or(Stranger::NoName)?);
    if run.node == me.node {
        return Err(Stranger::Myself);
    }
    Ok((run, theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Run = Run { node: NodeId(1), generation: Generation(1) };

    #[test]
    fn only_those_who_belong_here_are_heard() {
        let you = proto::Run { node: 2, generation: 7 };
        let (mine, other) = (Some(ClusterId(5)), cluster_bytes(Some(ClusterId(6))));
        let same = cluster_bytes(mine);
        let check = |mine, protocol, cluster: &[u8], run| super::check(ME, mine, protocol, cluster, run);
        let run = Run { node: NodeId(2), generation: Generation(7) };

        assert_eq!(check(mine, PROTOCOL, &same, Some(&you)), Ok((run, mine)));
        assert_eq!(check(None, PROTOCOL, &same, Some(&you)), Ok((run, mine)), "joining");
        assert_eq!(check(mine, PROTOCOL, &[], Some(&you)), Ok((run, None)), "being joined");
        assert_eq!(check(mine, PROTOCOL, &other, Some(&you)), Err(Stranger::Cluster));
        assert_eq!(check(None, PROTOCOL, &[1, 2], Some(&you)), Err(Stranger::Cluster), "not an id");
        assert_eq!(check(mine, PROTOCOL + 1, &same, Some(&you)), Err(Stranger::Protocol(PROTOCOL + 1)));
        assert_eq!(check(mine, PROTOCOL, &same, None), Err(Stranger::NoName));
        let myself = proto::Run { node: 1, generation: 2 };
        assert_eq!(check(mine, PROTOCOL, &same, Some(&myself)), Err(Stranger::Myself));
    }
}
