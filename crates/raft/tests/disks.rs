//! Disks that stand still: what waits for them, and what must not.

mod support;

use std::future::Future;
use std::time::Duration;

use enfilade_proto::raft as pb;
use enfilade_proto::raft::append_response::Result as Said;
use enfilade_raft::{Raft, RaftCall, Status};
use enfilade_registry::{NodeId, Reader as _};
use futures::future::join_all;
use futures::poll;
use prost::Message as _;
use tokio::time::timeout;

use support::{Group, WITHIN, applied, create, wait_for};

/// Several times the longest election timeout, and both halves of the time in which a leader that hears nobody falls
/// silent at times.
const STILL: Duration = Duration::from_secs(3);

/// Far more than an answer from memory takes.
const AT_ONCE: Duration = Duration::from_secs(2);

/// What waits for a disk is not there after this.
const NOT_YET: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_that_stand_still_hold_up_writes_and_nothing_else() {
    let group = Group::founded(3, |_| ()).await;
    let leader = group.leader().await;
    let (led, follower) = (group.node(leader.0), group.node(group.follower().await.0));
    let before = led.read_index(WITHIN).await.expect("it leads");
    group.stand_still(true);
    let written = tokio::spawn({
        let (one, other) = (led.clone(), follower.clone());
        async move { tokio::join!(create(&one, 1), create(&other, 2)) }
    });

    let term = led.status().borrow().raft_term;
    let elects = async |node: NodeId| {
        let mut status = group.node(node.0).status();
        let elects = status.wait_for(|status| status.raft_term != term || status.leader != Some(leader));
        timeout(STILL, elects).await.is_ok()
    };
    let elected = join_all(group.running().into_iter().map(elects)).await;
    assert_eq!(elected, [false; 3], "nobody stands for election");
    for _ in 0..20 {
        let read = timeout(AT_ONCE, led.read_index(WITHIN)).await.expect("at once").expect("it leads still");
        assert_eq!(read, before);
    }
    assert!(!written.is_finished(), "nothing is committed without a disk");

    group.stand_still(false);
    let (one, other) = written.await.expect("no panic");
    one.expect("committed after all");
    other.expect("committed after all");
    group.agrees().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_says_at_once_who_leads_and_of_its_log_what_is_on_the_disk() {
    let group = Group::founded(3, |_| ()).await;
    let (led, follower) = (group.node(group.leader().await.0), group.node(group.follower().await.0));
    let (term, leader) = (led.status().borrow().raft_term, group.leader().await);
    group.disk(group.follower().await).stand_still(true);
    create(&led, 1).await.expect("the other two commit it");
    applied(&follower, led.index()).await;

    let present = ask(&follower, RaftCall::Heartbeat, vote(term, leader, true));
    assert_eq!(timeout(AT_ONCE, present).await.expect("at once").result(), Said::Success);
    let deposed = ask(&follower, RaftCall::Heartbeat, vote(term - 1, NodeId(9), true));
    let answer = timeout(AT_ONCE, deposed).await.expect("at once");
    assert_eq!((answer.result(), answer.vote), (Said::HigherVote, Some(vote(term, leader, true))));

    // This is how a leader asks how far the log is on the disk.
    let mut logged = Box::pin(ask(&follower, RaftCall::Append, vote(term, leader, true)));
    assert!(timeout(NOT_YET, &mut logged).await.is_err(), "its log is not on the disk");
    group.stand_still(false);
    assert_eq!(timeout(WITHIN, logged).await.expect("in time").result(), Said::Success);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_grants_a_vote_confirms_nobody_else_even_before_the_vote_is_on_the_disk() {
    let group = Group::founded(3, |_| ()).await;
    let (leader, voter) = (group.leader().await, group.follower().await);
    let (term, last) = {
        let led = group.node(leader.0);
        applied(&group.node(voter.0), led.index()).await;
        let status = led.status();
        let status = status.borrow();
        (status.raft_term, pb::LogId { term: status.raft_term, node: leader.0, index: status.last_log })
    };
    group.disk(voter).stand_still(true);
    let follower = group.node(voter.0);
    let candidate = pb::VoteRequest { vote: Some(vote(term + 1, NodeId(9), false)), last: Some(last), transfer: true };
    let mut granted = Box::pin(follower.serve(RaftCall::Vote, NodeId(9), candidate.encode_to_vec().into()));
    assert!(poll!(&mut granted).is_pending(), "a vote counts once it is on the disk");
    let mut confirmed = Box::pin(ask(&follower, RaftCall::Heartbeat, vote(term, leader, true)));
    assert!(timeout(NOT_YET, &mut confirmed).await.is_err(), "it says neither yes nor no");

    group.stand_still(false);
    let (granted, confirmed) = tokio::join!(granted, confirmed);
    assert!(pb::VoteResponse::decode(granted.expect("it runs")).expect("an answer").granted);
    assert_eq!(confirmed.result(), Said::HigherVote);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_leader_is_confirmed_by_nobody_whatever_the_disks_do() {
    let group = Group::founded(3, |_| ()).await;
    let old = group.leader().await;
    group.net.isolate(old);
    let others: Vec<NodeId> = group.running().into_iter().filter(|node| *node != old).collect();
    let new = group.node(group.leader_among(&others).await.0);
    create(&new, 1).await.expect("it leads");
    let deposed = group.node(old.0);
    assert!(deposed.is_leader(), "it does not know yet");
    group.stand_still(true);
    group.net.heal();
    let (confirmed, leads) = tokio::join!(deposed.read_index(Duration::from_secs(1)), new.read_index(WITHIN));
    assert!(confirmed.is_err(), "{confirmed:?}");
    leads.expect("confirmed by the third");
    let knows = |status: &Status| !status.is_leader;
    group.stand_still(false);
    wait_for(&deposed, knows).await;
    group.agrees().await;
}

fn vote(term: u64, node: NodeId, committed: bool) -> pb::Vote {
    pb::Vote { term, node: node.0, committed }
}

/// Asks as a leader with this vote would, without entries.
fn ask(raft: &Raft, kind: RaftCall, vote: pb::Vote) -> impl Future<Output = pb::AppendResponse> {
    let asked = pb::AppendRequest { vote: Some(vote), ..Default::default() };
    async move {
        let answer = raft.serve(kind, NodeId(vote.node), asked.encode_to_vec().into()).await;
        pb::AppendResponse::decode(answer.expect("it runs")).expect("an answer")
    }
}
