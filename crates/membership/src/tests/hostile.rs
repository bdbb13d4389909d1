//! Strangers, wrong keys, rotation: what is refused and counted.

use super::*;
use crate::StartError;

async fn rejects_something(member: &Membership) -> Result<u64, Failed> {
    let begun = Instant::now();
    while member.rejected() == 0 {
        if begun.elapsed() > SOON {
            return Err("nothing was rejected".into());
        }
        tokio::task::yield_now().await;
    }
    Ok(member.rejected())
}

#[tokio::test]
async fn another_key_or_name_is_counted_and_ignored() -> Result<(), Failed> {
    let all = nodes(2).await?;
    let seed = all[0].identity().gossip;
    all_see(&all, &[run(1, 1), run(2, 1)], SOON).await?;
    assert_eq!(all[0].rejected(), 0);
    let mut wrong_key = config(&[seed])?;
    wrong_key.keys = GossipKeys::new(1, &[8; 32])?;
    let mut wrong_name = config(&[seed])?;
    wrong_name.cluster = "tset".to_owned();
    for (number, config) in [(8, wrong_key), (9, wrong_name)] {
        let before = all[0].rejected();
        let stranger = Membership::start(config, identity(run(number, 1)), socket(None).await?).await?;
        let begun = Instant::now();
        while all[0].rejected() < before + 3 {
            assert!(begun.elapsed() < SOON, "not counted");
            tokio::task::yield_now().await;
        }
        assert_eq!(stranger.roster().borrow().members().len(), 1);
        assert!(all[0].roster().borrow().runs().eq([run(1, 1), run(2, 1)]));
    }
    Ok(())
}

#[tokio::test]
async fn noise_is_counted() -> Result<(), Failed> {
    let member = node(run(1, 1), &[]).await?;
    let noise = socket(None).await?;
    noise.send_to(&[1; 1500], member.identity().gossip).await?;
    assert_eq!(rejects_something(&member).await?, 1);
    Ok(())
}

#[tokio::test]
async fn both_keys_are_good_while_they_change() -> Result<(), Failed> {
    let old = node(run(1, 1), &[]).await?;
    let seed = old.identity().gossip;
    drop(old);
    let mut before = config(&[])?;
    before.keys = GossipKeys::new(1, &SECRET)?.with_other(2, &[8; 32])?;
    let begun = Instant::now();
    let at = loop {
        match socket(Some(seed)).await {
            Ok(at) => break at,
            Err(error) if begun.elapsed() > SOON => return Err(error.into()),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let one = Membership::start(before, identity(run(1, 2)), at).await?;
    let mut after = config(&[seed])?;
    after.keys = GossipKeys::new(2, &[8; 32])?.with_other(1, &SECRET)?;
    let two = Membership::start(after, identity(run(2, 1)), socket(None).await?).await?;
    all_see(&[one, two], &[run(1, 2), run(2, 1)], SOON).await?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_work_does_not_start() -> Result<(), Failed> {
    let start = async |change: &dyn Fn(&mut Config, &mut Identity)| -> Result<StartError, Failed> {
        let (mut config, mut me) = (config(&[])?, identity(run(1, 1)));
        change(&mut config, &mut me);
        let started = Membership::start(config, me, socket(None).await?).await;
        started.err().ok_or_else(|| "it started".into())
    };
    let long = start(&|_, me| me.name = "n".repeat(65)).await?;
    assert!(matches!(long, StartError::TooLong { what: "the name", .. }), "{long}");
    let long = start(&|_, me| me.link = "l".repeat(129)).await?;
    assert!(matches!(long, StartError::TooLong { what: "the link address", .. }), "{long}");
    let nowhere = start(&|_, me| me.gossip = SocketAddr::from(([0, 0, 0, 0], 0))).await?;
    assert!(matches!(nowhere, StartError::NoAddress(_)), "{nowhere}");
    let slow = start(&|config, _| config.timing.probe_direct_ms = 300).await?;
    assert!(matches!(slow, StartError::Timing(_)), "{slow}");
    Ok(())
}
