//! Many exchanges at once that end in every way: each one ends, and nothing of them is left.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_mesh::{Broken, Config, Exchange, Mesh, NotSent, Open};
use enfilade_registry::NodeId;
use tokio::sync::mpsc;

use crate::fault::{FaultNet, Weather};
use crate::node::{Arrived, Node, bounded, pair_of, run};

const EXCHANGES: u64 = 1500;

/// A small generator: the same storm each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Talks until one side is tired: sends, reads, stops, drops.
async fn talk(mut exchange: Exchange, mut dice: Dice) -> Result<(), Broken> {
    for _ in 0..dice.roll(12) {
        match dice.roll(3) {
            0 => {
                let size = if dice.roll(10) == 0 { 200_000 } else { dice.roll(3000) as usize };
                exchange.send(Bytes::from(vec![size as u8; size]), false).await?;
            }
            1 => {
                // Who waits for the other for ever is told by the deadline.
                let Some(read) = exchange.next().await else { break };
                let read = read?;
                assert!(read.iter().all(|byte| *byte == read.len() as u8), "as it was sent");
            }
            _ => tokio::task::yield_now().await,
        }
    }
    if dice.roll(2) == 0 { exchange.send(Bytes::new(), true).await } else { Ok(()) }
}

async fn serve(mut arrived: mpsc::Receiver<Arrived>) {
    let mut number = 0;
    while let Some(Arrived { exchange, .. }) = arrived.recv().await {
        number += 1;
        tokio::spawn(talk(exchange, Dice(number)));
    }
}

/// Opens one, and says how it ended if it was opened.
async fn ask(mesh: Mesh, number: u64) -> Result<Result<(), Broken>, NotSent> {
    let mut dice = Dice(number << 20);
    let within = Some(Duration::from_millis(100 + dice.roll(900)));
    let size = dice.roll(2000) as usize;
    let open = Open { within, payload: Bytes::from(vec![1; size]), last: dice.roll(4) == 0, ..Open::default() };
    let exchange = mesh.open(NodeId(2), open).await?;
    Ok(talk(exchange, dice).await)
}

async fn storm(a: &Node) -> Vec<Result<Result<(), Broken>, NotSent>> {
    let asks: Vec<_> = (0..EXCHANGES).map(|number| tokio::spawn(ask(a.mesh.clone(), number))).collect();
    let mut ends = Vec::new();
    for ask in asks {
        ends.push(bounded(ask).await.unwrap());
    }
    ends
}

async fn many_under_way(mesh: &Mesh) {
    while mesh.stats().exchanges < 100 {
        tokio::task::yield_now().await;
    }
}

/// Waits until the two nodes hold no exchange and no byte of any.
async fn nothing_left(a: &Mesh, b: &Mesh) {
    bounded(async {
        loop {
            let (a, b) = (a.stats(), b.stats());
            if a.exchanges + b.exchanges_accepted + a.queued_bytes + b.queued_bytes == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_exchanges_that_ended() {
    let (a, b) = pair_of(Config::new(run(1, 1)), Config::new(run(2, 1))).await;
    tokio::spawn(serve(b.arrived));
    let ends = storm(&a).await;
    // How many of each is a matter of the machine; that there are some is not.
    assert!(ends.iter().any(|end| matches!(end, Ok(Ok(())))), "some end well");
    assert!(ends.iter().any(|end| matches!(end, Ok(Err(Broken::Reset)))), "some are dropped");
    assert!(ends.iter().any(|end| matches!(end, Ok(Err(Broken::Deadline)))), "some are late");
    assert!(!ends.iter().any(|end| matches!(end, Ok(Err(Broken::Lost | Broken::Unsent)))), "no link was lost");
    nothing_left(&a.mesh, &b.mesh).await;
    let stats = (a.mesh.stats(), b.mesh.stats());
    assert_eq!((stats.0.links, stats.1.links_accepted), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_exchange_ends_when_links_come_and_go() {
    let net = FaultNet::new();
    let (a, b) = pair_of(Config { net: net.clone(), ..Config::new(run(1, 1)) }, Config::new(run(2, 1))).await;
    tokio::spawn(serve(b.arrived));
    let address = b.address.clone();
    let weather = tokio::spawn({
        let (net, mesh) = (Arc::clone(&net), a.mesh.clone());
        let mut watch = a.mesh.watch();
        async move {
            for _ in 0..5 {
                bounded(many_under_way(&mesh)).await;
                net.set(&address, Weather::Cut);
                bounded(watch.wait_for(Vec::is_empty)).await.unwrap();
                net.set(&address, Weather::Fair);
                bounded(watch.wait_for(|nodes| !nodes.is_empty())).await.unwrap();
            }
        }
    });
    let mut lost = 0;
    while !weather.is_finished() {
        lost += storm(&a).await.iter().filter(|end| matches!(end, Ok(Err(Broken::Lost | Broken::Unsent)))).count();
    }
    bounded(weather).await.unwrap();
    assert!(lost > 0, "links were lost under load");
    nothing_left(&a.mesh, &b.mesh).await;
}
