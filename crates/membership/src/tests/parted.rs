//! Two halves that cannot hear each other, and afterwards can.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::*;

/// Senders that are not heard now.
type Deaf = Arc<Mutex<BTreeSet<SocketAddr>>>;

/// A node behind a gate, which lets pass what comes from senders that are heard.
async fn gated(run: Run, seeds: &[SocketAddr], deaf: Deaf) -> Result<(Membership, SocketAddr), Failed> {
    let (gate, inner) = (socket(None).await?, socket(None).await?);
    let (mut me, behind) = (identity(run), inner.local_addr()?);
    me.gossip = gate.local_addr()?;
    tokio::spawn(async move {
        let mut packet = [0; 2048];
        while let Ok((length, from)) = gate.recv_from(&mut packet).await {
            let heard = !deaf.lock().contains(&from);
            if heard && gate.send_to(&packet[..length], behind).await.is_err() {
                return;
            }
        }
    });
    Ok((Membership::start(config(seeds)?, me, inner).await?, behind))
}

/// One half is two nodes, the other one; `both` ways or only towards the one.
async fn part_and_heal(both: bool) -> Result<(), Failed> {
    let gates = [Deaf::default(), Deaf::default(), Deaf::default()];
    let (one, at_one) = gated(run(1, 1), &[], Arc::clone(&gates[0])).await?;
    let seed = one.identity().gossip;
    let (two, at_two) = gated(run(2, 1), &[seed], Arc::clone(&gates[1])).await?;
    let (three, at_three) = gated(run(3, 1), &[seed], Arc::clone(&gates[2])).await?;
    let runs = [run(1, 1), run(2, 1), run(3, 1)];
    let all = [one, two, three];
    all_see(&all, &runs, SOON).await?;

    gates[2].lock().extend([at_one, at_two]);
    if both {
        gates[0].lock().insert(at_three);
        gates[1].lock().insert(at_three);
        all_see(&all[..2], &runs[..2], SOON).await?;
    }
    all_see(&all[2..], &runs[2..], 2 * SOON).await?;

    for gate in &gates {
        gate.lock().clear();
    }
    let healed = all_see(&all, &runs, 2 * SOON).await?;
    println!("healed in {healed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_find_each_other_again() -> Result<(), Failed> {
    part_and_heal(true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hears_nothing_comes_back() -> Result<(), Failed> {
    part_and_heal(false).await
}
