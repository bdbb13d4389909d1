//! Three replicas: elections, writes, crashes, partitions, restarts.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use enfilade_raft::{ControlError, NoQuorum, OpenError, RaftCall};
use enfilade_registry::{Command, EndReason, NodeId, Reader as _, Refusal, WriteError, Writer as _};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use support::{Group, WITHIN, applied, create, create_all, session, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_is_a_group() {
    let mut group = Group::new(1, |_| ()).await;
    let raft = group.node(1);
    assert!(!raft.status().borrow().is_initialised);
    raft.bootstrap([NodeId(1)]).await.expect("a new one");
    group.leader().await;
    let id = create(&raft, 1).await.expect("created");
    let read = raft.read_index(WITHIN).await.expect("it leads");
    assert_eq!(read, raft.index());
    assert_eq!(raft.bootstrap([NodeId(1)]).await, Err(ControlError::Exists));
    drop(raft);
    group.stop(NodeId(1)).await;
    let raft = group.start(1).await;
    assert!(raft.status().borrow().is_initialised, "from the first moment");
    group.leader().await;
    raft.read_index(WITHIN).await.expect("it leads again");
    assert!(raft.session(&id).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_follower_submits_is_applied_everywhere() {
    let group = Group::founded(3, |_| ()).await;
    let follower = group.node(group.follower().await.0);
    let ended = Arc::new(Mutex::new(Vec::new()));
    let leader = group.node(group.leader().await.0);
    leader.on_ended({
        let ended = ended.clone();
        Arc::new(move |now| ended.lock().extend_from_slice(now))
    });
    create_all(&follower, 0..300).await;
    group.agrees().await;
    assert_eq!(leader.counts().sessions, 300);

    let id = session(7).id;
    follower.submit(Command::EndSession { id, reason: EndReason::Client }).await.expect("ended");
    let again = follower.submit(Command::EndSession { id, reason: EndReason::Client }).await;
    assert_eq!(again, Err(WriteError::Refused(Refusal::UnknownSession)));
    applied(&leader, follower.index()).await;
    let heard: Vec<_> = ended.lock().iter().map(|ended| ended.id).collect();
    assert_eq!(heard, [id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_carry_many_commands() {
    let group = Group::founded(3, |_| ()).await;
    let leader = group.node(group.leader().await.0);
    let before = leader.index();
    create_all(&leader, 0..1000).await;
    let entries = leader.index() - before;
    assert!(entries < 500, "1000 commands took {entries} entries");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_resume_soon_after_the_leader_dies() {
    let mut group = Group::founded(3, |_| ()).await;
    let dead = group.leader().await;
    let survivor = group.node(group.follower().await.0);
    create(&survivor, 1).await.expect("created");
    group.stop(dead).await;
    let since = Instant::now();
    let mut n = 2;
    while create(&survivor, n).await.is_err() {
        n += 1;
    }
    let took = since.elapsed();
    println!("writes resumed after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_ne!(group.leader().await, dead);
    assert!(survivor.session(&session(1).id).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_survivors_elect_one_of_them_each_time() {
    let group = Group::founded(3, |_| ()).await;
    for round in 0..4 {
        let lost = group.leader().await;
        group.net.isolate(lost);
        let survivors: Vec<NodeId> = group.running().into_iter().filter(|node| *node != lost).collect();
        let since = Instant::now();
        let leader = group.leader_among(&survivors).await;
        let took = since.elapsed();
        println!("round {round}: {leader} leads after {took:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
        create(&group.node(leader.0), 100 + round).await.expect("created");
        group.net.heal();
        group.leader().await;
    }
    group.agrees().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_cannot_read_nor_write() {
    let group = Group::founded(3, |config| config.submitting.within = Duration::from_secs(2)).await;
    let old = group.leader().await;
    let old_leader = group.node(old.0);
    old_leader.read_index(WITHIN).await.expect("it leads");
    group.net.isolate(old);
    let others: Vec<NodeId> = group.running().into_iter().filter(|node| *node != old).collect();
    let new = group.leader_among(&others).await;
    assert!(old_leader.is_leader(), "it does not know yet");
    let (read, written) = tokio::join!(old_leader.read_index(Duration::from_secs(1)), create(&old_leader, 1));
    assert_eq!(read, Err(NoQuorum::Late));
    assert_eq!(written, Err(WriteError::Unavailable));
    create(&group.node(new.0), 2).await.expect("created");
    let follower = others.iter().find(|node| **node != new).expect("three nodes");
    let refused = group.node(follower.0).read_index(WITHIN).await;
    assert_eq!(refused, Err(NoQuorum::NotLeader { leader: Some(new) }));

    group.net.heal();
    wait_for(&old_leader, |status| !status.is_leader && status.leader == Some(new)).await;
    group.agrees().await;
    assert!(old_leader.session(&session(1).id).is_none(), "what was not committed is gone");
    assert!(old_leader.session(&session(2).id).is_some());
    let back = old_leader.read_index(WITHIN).await;
    assert_eq!(back, Err(NoQuorum::NotLeader { leader: Some(new) }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_does_not_depose_the_leader() {
    let group = Group::founded(3, |_| ()).await;
    let leader = group.leader().await;
    let term = group.node(leader.0).status().borrow().raft_term;
    let away = group.follower().await;
    group.net.isolate(away);
    // It would stand for election several times in that time, and raise its term with each.
    let mut status = group.node(away.0).status();
    let raised = timeout(Duration::from_secs(3), status.wait_for(|status| status.raft_term > term)).await;
    assert!(raised.is_err(), "its term stays");
    group.net.heal();
    create(&group.node(away.0), 1).await.expect("created");
    assert_eq!(group.leader().await, leader);
    assert_eq!(group.node(leader.0).status().borrow().raft_term, term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_nothing_is_replaced() {
    let group = Group::founded(3, |_| ()).await;
    let deaf = group.leader().await;
    let others: Vec<NodeId> = group.running().into_iter().filter(|node| *node != deaf).collect();
    for other in &others {
        group.net.cut_one_way(*other, deaf);
    }
    // Its heartbeats arrive, their answers do not.
    let leader = group.leader_among(&others).await;
    create(&group.node(leader.0), 1).await.expect("created");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_at_once() {
    let group = Group::founded(3, |_| ()).await;
    let from = group.leader().await;
    let to = group.follower().await;
    let refused = group.node(to.0).transfer_leader(from, WITHIN).await;
    assert_eq!(refused, Err(ControlError::NotLeader { leader: Some(from) }));
    let since = Instant::now();
    group.node(from.0).transfer_leader(to, WITHIN).await.expect("handed over");
    let took = since.elapsed();
    println!("handed over in {took:?}");
    assert!(took < Duration::from_millis(300), "shorter than any election timeout: {took:?}");
    assert_eq!(group.leader().await, to);
    group.node(to.0).read_index(WITHIN).await.expect("it leads");
    create(&group.node(from.0), 1).await.expect("created");
    group.node(to.0).step_down(WITHIN).await.expect("handed over");
    assert_ne!(group.leader().await, to);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost() {
    let mut group = Group::founded(3, |config| config.submitting.within = Duration::from_secs(2)).await;
    let acknowledged = Arc::new(watch::Sender::new(Vec::new()));
    let mut writers = Vec::new();
    for node in 1..=3_u128 {
        let (raft, acknowledged) = (group.node(node as u64), acknowledged.clone());
        writers.push(tokio::spawn(async move {
            for n in 0..u128::MAX {
                match create(&raft, node * 1_000_000 + n).await {
                    Ok(id) => acknowledged.send_modify(|all| all.push(id)),
                    // Its node was stopped; late ones go on.
                    Err(_) if raft.status().borrow().failed.is_some() => return,
                    Err(_) => {}
                }
            }
        }));
    }
    let more = async || {
        let mut now = acknowledged.subscribe();
        let least = now.borrow().len() + 50;
        timeout(WITHIN, now.wait_for(|all| all.len() >= least)).await.expect("writes go on").expect("kept here");
    };
    more().await;
    group.net.isolate(group.leader().await);
    more().await;
    group.net.heal();
    group.leader().await;
    more().await;
    for writer in writers {
        writer.abort();
        let _ = writer.await;
    }
    for node in group.running() {
        group.stop(node).await;
    }
    for node in 1..=3 {
        group.start(node).await;
    }
    group.node(group.leader().await.0).read_index(WITHIN).await.expect("it leads");
    group.agrees().await;
    let raft = group.node(1);
    let acknowledged = acknowledged.borrow().clone();
    println!("{} acknowledged", acknowledged.len());
    assert!(acknowledged.iter().all(|id| raft.session(id).is_some()));
    create(&raft, 9).await.expect("created");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_of_a_later_release_stops_the_replica() {
    let mut group = Group::founded(1, |_| ()).await;
    let raft = group.node(1);
    create(&raft, 1).await.expect("it leads");
    let answer = support::submit_raw(&raft, 1, b"\xff{}").await;
    assert!(answer.is_err(), "{answer:?}");
    let failed = wait_for(&raft, |status| status.failed.is_some()).await.failed.expect("waited for");
    assert!(failed.contains("format 255 is newer"), "{failed}");
    assert_eq!(create(&raft, 1).await, Err(WriteError::Unavailable));
    drop(raft);
    group.stop(NodeId(1)).await;
    let refused = group.try_start(1).await.map(drop);
    assert!(matches!(refused, Err(OpenError::Start(why)) if why.contains("format 255 is newer")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_comes_twice_is_applied_once() {
    use enfilade_proto::raft::submit_response::Result as R;
    let group = Group::founded(3, |_| ()).await;
    let leader = group.node(group.leader().await.0);
    let follower = group.node(group.follower().await.0);
    let id = create(&leader, 1).await.expect("it leads");
    let subscribe = Command::Subscribe { id, uri: "file:///a".into() };
    let unsubscribe = Command::Unsubscribe { id, uri: "file:///a".into() };
    assert_eq!(support::submit_raw(&leader, 7, &subscribe.encode()).await, Ok(R::Committed));
    follower.submit(unsubscribe).await.expect("done");
    assert_eq!(support::submit_raw(&leader, 7, &subscribe.encode()).await, Ok(R::Committed));
    group.agrees().await;
    assert!(leader.session(&id).expect("there").subscriptions().is_empty(), "the copy changed nothing");
    assert_eq!(support::submit_raw(&leader, 8, &subscribe.encode()).await, Ok(R::Committed));
    assert!(!leader.session(&id).expect("there").subscriptions().is_empty(), "another batch does");

    assert_eq!(support::submit_raw(&follower, 9, &subscribe.encode()).await, Ok(R::NotLeader));
    let malformed = leader.serve(RaftCall::Submit, NodeId(9), b"\xff".as_slice().into()).await;
    assert!(malformed.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_dropped_leads_no_more_and_frees_its_directory() {
    let mut group = Group::founded(3, |_| ()).await;
    create(&group.node(1), 1).await.expect("created");
    let dead = group.leader().await;
    group.abandon(dead);
    let leader = group.leader().await;
    assert_ne!(leader, dead);
    create(&group.node(leader.0), 2).await.expect("created");
    group.start(dead.0).await;
    group.leader().await;
    group.agrees().await;
    assert!(group.node(dead.0).session(&session(2).id).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_may_not_know_is_not_even_proposed() {
    let group = Group::founded(3, |_| ()).await;
    let apply = || Command::ApplyConfiguration { version: 1, document: "{}".into(), reverts: None };
    for node in group.running() {
        let raft = group.node(node.0);
        let last = raft.status().borrow().last_log;
        let refused = raft.submit(apply()).await;
        assert_eq!(refused, Err(WriteError::Refused(Refusal::NotFinalised { needs: 2 })));
        assert_eq!(raft.status().borrow().last_log, last);
    }
    let raft = group.node(1);
    raft.submit(Command::Finalise { version: 2 }).await.expect("nobody is a member who does not know it");
    raft.submit(apply()).await.expect("finalised");
    group.agrees().await;
}
