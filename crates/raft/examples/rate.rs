//! How fast sessions are created durably by three voters in one process, with real syncs, and what they take.
//!
//! `cargo run --release -p enfilade-raft --example rate -- [sessions] [callers] [directory]`

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use enfilade_raft::{Config, Raft, RaftCall, Transport, Unreachable};
use enfilade_registry::{
    BoxFuture, Command, Generation, Limits, NewSession, NodeId, Reader as _, Run, SessionKeys, Slot, Writer as _,
};
use hdrhistogram::Histogram;

/// As in the gateway.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const VOTERS: u64 = 3;
/// Sessions of which one rate is printed.
const STEP: usize = 20_000;
/// Snapshots of which the longest stall is printed.
const SNAPSHOTS: usize = 20;

/// The nodes of this process, by id.
#[derive(Default)]
struct Net(OnceLock<HashMap<NodeId, Weak<Raft>>>);

struct Link {
    net: Arc<Net>,
    me: NodeId,
}

impl Transport for Link {
    fn call(
        &self,
        to: NodeId,
        kind: RaftCall,
        body: Bytes,
        within: Duration,
    ) -> BoxFuture<'_, Result<Bytes, Unreachable>> {
        let unreachable = move |why: &str| Unreachable { to, why: why.to_owned() };
        Box::pin(async move {
            let nodes = self.net.0.get().ok_or(unreachable("not started"))?;
            let node = nodes.get(&to).and_then(Weak::upgrade).ok_or(unreachable("down"))?;
            let me = self.me;
            let served = tokio::spawn(async move { node.serve(kind, me, body).await });
            let answer = tokio::time::timeout(within, served).await.map_err(|_| unreachable("late"))?;
            answer.map_err(|_| unreachable("panicked"))?.map_err(|error| unreachable(&error.to_string()))
        })
    }
}

fn session(keys: &SessionKeys, n: u64) -> NewSession {
    NewSession {
        id: keys.mint(Slot::new((n % 4096) as u16).expect("in range"), u128::from(n).to_be_bytes()),
        principal: format!("user-{}", n % 1000).into(),
        server: "default".into(),
        version: "2025-11-25".into(),
        client_info: r#"{"name":"some-client","version":"1.2.3"}"#.into(),
        capabilities: r#"{"roots":{"listChanged":true},"sampling":{}}"#.into(),
        log_level: None,
    }
}

/// Bytes of this process in memory, once it is at rest: the allocator gives pages back after 10 s. 0 where the system
/// does not say.
async fn resident_bytes() -> u64 {
    tokio::time::sleep(Duration::from_secs(12)).await;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Creates sessions at these nodes with that many callers. Prints rate and latency.
async fn create(nodes: &[Arc<Raft>], what: &str, range: std::ops::Range<u64>, callers: u64) {
    let keys = Arc::new(SessionKeys::new(1, &[7; 32]).expect("32 bytes are enough"));
    let next = Arc::new(AtomicU64::new(range.start));
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for caller in 0..callers {
        let raft = nodes[(caller % nodes.len() as u64) as usize].clone();
        let (keys, next, end) = (keys.clone(), next.clone(), range.end);
        tasks.push(tokio::spawn(async move {
            let mut took_us = Histogram::<u64>::new_with_max(600_000_000, 3).expect("three digits");
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= end {
                    return took_us;
                }
                let begun = Instant::now();
                raft.submit(Command::CreateSession(session(&keys, n))).await.expect("created");
                took_us.saturating_record(begun.elapsed().as_micros() as u64);
            }
        }));
    }
    let mut took_us = Histogram::<u64>::new_with_max(600_000_000, 3).expect("three digits");
    for task in tasks {
        took_us.add(task.await.expect("no panic")).expect("same bounds");
    }
    let count = range.end - range.start;
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    let ms = |quantile| took_us.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "{what:<22} {callers:>5} callers {rate:>9.0} sessions/s   p50 {:>7.2} ms   p99 {:>7.2} ms   longest {:>7.2} ms",
        ms(0.5),
        ms(0.99),
        ms(1.0)
    );
}

/// How long the state is held to take a snapshot of it: the longest of some.
fn longest_stall(raft: &Raft) -> Duration {
    let stall = |_| {
        let begun = Instant::now();
        let frozen = raft.read(enfilade_registry::StateMachine::freeze);
        let took = begun.elapsed();
        drop(frozen);
        took
    };
    (0..SNAPSHOTS).map(stall).max().unwrap_or_default()
}

async fn open(dir: &std::path::Path) -> Vec<Arc<Raft>> {
    let net = Arc::new(Net::default());
    let mut nodes = Vec::new();
    for node in 1..=VOTERS {
        let run = Run { node: NodeId(node), generation: Generation(1) };
        let link = Arc::new(Link { net: net.clone(), me: run.node });
        let raft = Raft::open(Config::new(dir.join(node.to_string()), run, link)).await.expect("a replica");
        nodes.push(Arc::new(raft));
    }
    let by_id = nodes.iter().zip(1..).map(|(raft, node)| (NodeId(node), Arc::downgrade(raft))).collect();
    net.0.set(by_id).expect("set once");
    nodes[0].bootstrap((1..=VOTERS).map(NodeId)).await.expect("an empty group");
    for raft in &nodes {
        raft.status().wait_for(|status| status.leader.is_some()).await.expect("it runs");
    }
    nodes
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let sessions: u64 = arguments.next().map_or(200_000, |count| count.parse().expect("a number of sessions"));
    let callers: u64 = arguments.next().map_or(256, |count| count.parse().expect("a number of callers"));
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);

    let nodes = open(&dir).await;
    let limits = Limits { sessions_max: u64::MAX, sessions_per_principal_max: u64::MAX, ..Limits::default() };
    nodes[0].submit(Command::Configure { limits }).await.expect("configured");
    let (leaders, followers): (Vec<_>, Vec<_>) = nodes.iter().cloned().partition(|raft| raft.is_leader());

    create(&leaders, "at the leader", 0..200, 1).await;
    create(&followers, "at a follower", 200..400, 1).await;
    create(&leaders, "at the leader", 400..10_400, callers).await;
    create(&followers, "at followers", 10_400..20_400, callers).await;
    let (begin, before) = (20_400, resident_bytes().await);
    for from in (begin..begin + sessions).step_by(STEP) {
        create(&nodes, "at all nodes", from..(from + STEP as u64).min(begin + sessions), callers).await;
    }
    let grown = resident_bytes().await.saturating_sub(before);
    println!("memory: {} bytes for each session and voter", grown / (sessions * VOTERS).max(1));
    println!("a snapshot stalls applying for {:.2} ms", longest_stall(&nodes[0]).as_secs_f64() * 1000.0);
    for raft in &nodes {
        let status = raft.status().borrow().clone();
        println!(
            "applied {:>7}, last snapshot {:>7?}, {} sessions",
            status.applied,
            status.snapshot,
            raft.counts().sessions
        );
        raft.close().await;
    }
}
