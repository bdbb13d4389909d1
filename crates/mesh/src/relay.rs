//! Passes an exchange on between two nodes that have no link of their own. One node on the way, never two.

use std::sync::Arc;

use bytes::Bytes;
use enfilade_proto::mesh::ResetReason;
use enfilade_registry::{NodeId, Run};

use crate::link::{Link, Route};
use crate::shared::Shared;
use crate::{Broken, Exchange, NotSent, Open, Receiving, Sending};

/// Which of the two exchanges broke.
#[derive(Clone, Copy)]
enum Side {
    /// With the node that opened it.
    Near(Broken),
    /// With the node that serves it.
    Far(Broken),
}

/// Passes on an exchange of `from` to the node `to`.
pub(crate) fn begin(shared: &Arc<Shared>, to: NodeId, from: Run, open: Open, near: Exchange) {
    match shared.peers.link(to) {
        Some(link) => shared.spawn(&shared.tasks, pass(link, from, open, near)),
        None => near.reset(ResetReason::Unreachable),
    }
}

async fn pass(link: Arc<Link>, from: Run, open: Open, near: Exchange) {
    let last = open.last;
    let far = match link.open(open, Route { relayed_for: Some(from), relay_to: None }).await {
        Ok(far) => far,
        Err(NotSent::Deadline) => return near.reset(ResetReason::Deadline),
        Err(NotSent::Unreachable | NotSent::TooLarge) => return near.reset(ResetReason::Unreachable),
    };
    let (mut near_out, mut near_in) = near.split();
    let (mut far_out, mut far_in) = far.split();
    let there = async {
        // What the opener said with its first message is said.
        if last { Ok(()) } else { pump(&mut near_in, &mut far_out, Side::Near, Side::Far).await }
    };
    let back = pump(&mut far_in, &mut near_out, Side::Far, Side::Near);
    match tokio::try_join!(there, back) {
        Ok(_) => {}
        Err(Side::Near(Broken::Deadline)) => far_out.reset(ResetReason::Deadline),
        Err(Side::Near(_)) => far_out.reset(ResetReason::Dropped),
        Err(Side::Far(broken)) => near_out.reset(match broken {
            Broken::Unsent => ResetReason::Unreachable,
            Broken::Deadline => ResetReason::Deadline,
            Broken::Reset => ResetReason::Dropped,
            Broken::Lost | Broken::TooLarge | Broken::Finished => ResetReason::Lost,
        }),
    }
}

/// Passes messages on in one direction until the last.
async fn pump(
    from: &mut Receiving,
    to: &mut Sending,
    from_side: fn(Broken) -> Side,
    to_side: fn(Broken) -> Side,
) -> Result<(), Side> {
    loop {
        tokio::select! {
            biased;
            next = from.next_message() => match next {
                Some(Ok(message)) => to.send(message, false).await.map_err(to_side)?,
                Some(Err(broken)) => return Err(from_side(broken)),
                None => return to.send(Bytes::new(), true).await.map_err(to_side),
            },
            broken = to.broken() => return Err(to_side(broken)),
        }
    }
}
