//! Join, death, goodbye, return, hints.

use super::*;
use crate::Hint;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_join_by_one_seed_and_a_death_is_seen_by_all() -> Result<(), Failed> {
    let mut all = nodes(5).await?;
    let runs: Vec<Run> = (1..=5).map(|number| run(number, 1)).collect();
    let joined = all_see(&all, &runs, SOON).await?;
    // Dropped without a goodbye: nothing is sent any more, as after kill -9.
    drop(all.remove(2));
    let left = [runs[0], runs[1], runs[3], runs[4]];
    let noticed = all_see(&all, &left, SOON).await?;
    println!("joined in {joined:?}, death seen in {noticed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_the_death_of_the_seed_is_seen_by_both() -> Result<(), Failed> {
    let mut all = nodes(3).await?;
    all_see(&all, &[run(1, 1), run(2, 1), run(3, 1)], SOON).await?;
    drop(all.remove(0));
    let noticed = all_see(&all, &[run(2, 1), run(3, 1)], SOON).await?;
    println!("death seen in {noticed:?}");
    Ok(())
}

#[tokio::test]
async fn a_goodbye_is_seen_at_once() -> Result<(), Failed> {
    let mut all = nodes(4).await?;
    let runs: Vec<Run> = (1..=4).map(|number| run(number, 1)).collect();
    all_see(&all, &runs, SOON).await?;
    let gone = all.remove(1);
    gone.leave().await;
    // A death would take longer than a suspicion.
    let noticed = all_see(&all, &[runs[0], runs[2], runs[3]], Duration::from_secs(2)).await?;
    println!("goodbye seen in {noticed:?}");
    let mut roster = gone.roster();
    assert!(tokio::time::timeout(SOON, roster.wait_for(|_| false)).await?.is_err(), "the roster goes on");
    gone.leave().await;
    Ok(())
}

#[tokio::test]
async fn a_later_run_replaces_the_earlier_one() -> Result<(), Failed> {
    let all = nodes(3).await?;
    let seed = all[0].identity().gossip;
    all_see(&all, &[run(1, 1), run(2, 1), run(3, 1)], SOON).await?;
    // The earlier run is still there, and does not take its place back.
    let later = node(run(3, 2), &[seed]).await?;
    let after = [run(1, 1), run(2, 1), run(3, 2)];
    let replaced = all_see(&all[..2], &after, Duration::from_secs(2)).await?;
    println!("replaced in {replaced:?}");
    sees(&later, "all three", SOON, |roster| roster.runs().eq(after)).await?;
    let flap = tokio::time::timeout(Duration::from_secs(3), async {
        all[0]
            .roster()
            .wait_for(|roster| roster.get(NodeId(3)).is_some_and(|alive| alive.identity.run != run(3, 2)))
            .await
            .is_ok()
    });
    assert!(flap.await.is_err(), "the earlier run came back");
    Ok(())
}

#[tokio::test]
async fn another_node_at_the_same_address_replaces_the_one_before() -> Result<(), Failed> {
    let mut all = nodes(2).await?;
    let seed = all[0].identity().gossip;
    all_see(&all, &[run(1, 1), run(2, 1)], SOON).await?;
    let gone = all.remove(1);
    let at = gone.identity().gossip;
    drop(gone);
    // The socket closes when the aborted task is gone.
    let begun = Instant::now();
    let again = loop {
        match socket(Some(at)).await {
            Ok(again) => break again,
            Err(error) if begun.elapsed() > SOON => return Err(error.into()),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let mut config = config(&[seed])?;
    config.started_ms = 1;
    let mut me = identity(run(9, 1));
    me.gossip = at;
    let fresh = Membership::start(config, me, again).await?;
    let after = [run(1, 1), run(9, 1)];
    all.push(fresh);
    // Sooner than a suspicion takes.
    let replaced = all_see(&all, &after, Duration::from_secs(2)).await?;
    println!("replaced in {replaced:?}");
    Ok(())
}

#[tokio::test]
async fn the_newest_hint_reaches_all_and_those_who_come_later() -> Result<(), Failed> {
    let mut all = nodes(4).await?;
    let runs: Vec<Run> = (1..=4).map(|number| run(number, 1)).collect();
    all_see(&all, &runs, SOON).await?;
    let hint = |version| Hint { version, load: 10 * u32::try_from(version).unwrap_or(0), ..Hint::default() };
    all[3].set_hint(hint(1));
    all[3].set_hint(Hint { sees: vec![NodeId(1), NodeId(2)], leader: Some((3, NodeId(1))), ..hint(2) });
    all[3].set_hint(hint(1));
    let begun = Instant::now();
    for member in &all {
        sees(member, "hint 2", SOON, |roster| version(roster, 4) == Some(2)).await?;
    }
    println!("hint with all in {:?}", begun.elapsed());
    let seed = all[1].identity().gossip;
    all.push(node(run(5, 1), &[seed]).await?);
    let came = sees(&all[4], "hint 2", SOON, |roster| version(roster, 4) == Some(2)).await?;
    println!("hint with a newcomer in {came:?}");
    let roster = Arc::clone(&all[4].roster().borrow());
    let hint = roster.get(NodeId(4)).and_then(|alive| alive.hint.clone()).ok_or("no hint")?;
    assert_eq!((hint.load, hint.leader, hint.sees), (20, Some((3, NodeId(1))), vec![NodeId(1), NodeId(2)]));
    Ok(())
}

fn version(roster: &Roster, node: u64) -> Option<u64> {
    roster.get(NodeId(node))?.hint.as_ref().map(|hint| hint.version)
}

#[tokio::test]
async fn a_name_with_two_addresses_is_two_seeds() -> Result<(), Failed> {
    let one = node(run(1, 1), &[]).await?;
    let two = node(run(2, 1), &[]).await?;
    let mut config = config(&[])?;
    config.seeds = vec!["nobody:1".to_owned(), "cluster:7946".to_owned()];
    config.resolver = Arc::new(Name("cluster:7946", vec![one.identity().gossip, two.identity().gossip]));
    let three = Membership::start(config, identity(run(3, 1)), socket(None).await?).await?;
    // The first two have never heard of each other: only both addresses bring them together.
    all_see(&[one, two, three], &[run(1, 1), run(2, 1), run(3, 1)], SOON).await?;
    Ok(())
}
