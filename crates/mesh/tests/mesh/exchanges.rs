//! What an exchange carries, in both directions, and how much of it at once.

use std::time::{Duration, Instant};

use bytes::Bytes;
use enfilade_mesh::{Broken, Config, Limits, Message, NotSent, Open};
use enfilade_registry::NodeId;
use futures::StreamExt;

use crate::node::{Arrived, bounded, pair, pair_of, question, run, talk};

#[tokio::test]
async fn a_question_and_its_answers_pass_both_ways() {
    let (mut a, mut b) = pair().await;
    let open = Open {
        kind: 7,
        slot: 4095,
        term: u64::MAX,
        within: Some(Duration::from_secs(60)),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        payload: Bytes::from_static(b"to b"),
        body: Bytes::from_static(b"and more"),
        last: true,
    };
    let mut at_a = a.open(2, open.clone()).await;
    assert_eq!(at_a.peer(), b.run);

    let Arrived { from, open: arrived, exchange: mut at_b } = b.next().await;
    assert_eq!(from, a.run);
    let within = arrived.within.unwrap();
    assert!(within <= Duration::from_secs(60) && within > Duration::from_secs(40), "{within:?}");
    assert_eq!(Open { within: open.within, ..arrived }, open, "all else as it was sent");
    assert_eq!(bounded(at_b.next()).await, None, "the opener said last");
    at_b.send(Bytes::from_static(b"one"), false).await.unwrap();
    at_b.send(Bytes::new(), false).await.unwrap();
    at_b.send(Bytes::from_static(b"three"), true).await.unwrap();
    assert_eq!(at_b.send(Bytes::new(), false).await, Err(Broken::Finished));
    drop(at_b);
    for expected in ["one", "", "three"] {
        assert_eq!(bounded(at_a.next()).await, Some(Ok(Bytes::from_static(expected.as_bytes()))));
    }
    assert_eq!(bounded(at_a.next()).await, None);
    assert_eq!(bounded(at_a.broken()).await, Broken::Finished);

    // The other way round, over the other node's link.
    let mut at_b = b.open(1, question("to a")).await;
    let Arrived { from, open, exchange: mut at_a } = a.next().await;
    assert_eq!((from, &open.payload[..]), (b.run, &b"to a"[..]));
    at_a.send(Bytes::new(), true).await.unwrap();
    assert_eq!(bounded(at_b.next()).await, None, "an empty last message is only the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_exchanges_share_a_link() {
    let (a, mut b) = pair().await;
    let echo = tokio::spawn(async move {
        for _ in 0..2000 {
            let mut arrived = b.next().await;
            tokio::spawn(async move {
                while let Some(payload) = arrived.exchange.next().await {
                    arrived.exchange.send(payload.unwrap(), false).await.unwrap();
                }
                arrived.exchange.send(arrived.open.payload, true).await.unwrap();
            });
        }
        b
    });
    let asked = (0..2000_usize).map(|number| {
        let mesh = a.mesh.clone();
        tokio::spawn(async move {
            let named = Bytes::from(format!("exchange {number}"));
            let mut exchange = mesh.open(NodeId(2), Open { payload: named.clone(), ..talk() }).await.unwrap();
            for round in 0..3 {
                let said = Bytes::from(vec![b'x'; number + round]);
                exchange.send(said.clone(), false).await.unwrap();
                assert_eq!(exchange.next().await, Some(Ok(said)));
            }
            exchange.send(Bytes::new(), true).await.unwrap();
            assert_eq!(exchange.next().await, Some(Ok(named)));
            assert_eq!(exchange.next().await, None);
        })
    });
    for one in asked.collect::<Vec<_>>() {
        bounded(one).await.unwrap();
    }
    bounded(echo).await.unwrap();
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_its_writer_and_no_other() {
    let (a, mut b) = pair().await;
    let (mut sending, _receiving) = a.open(2, talk()).await.split();
    let mut slow = b.next().await.exchange;
    let written = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&written);
    let writer = tokio::spawn(async move {
        for _ in 0..64 {
            sending.send(Bytes::from(vec![1; 16 * 1024]), false).await.unwrap();
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        sending.send(Bytes::new(), true).await.unwrap();
    });

    // Others go on, and after a hundred of them the writer stands at its credit.
    for _ in 0..100 {
        let mut other = a.open(2, question("quick")).await;
        let mut arrived = b.next().await;
        arrived.exchange.send(arrived.open.payload, true).await.unwrap();
        assert_eq!(bounded(other.next()).await, Some(Ok(Bytes::from_static(b"quick"))));
    }
    let credit = Limits::default().credit_bytes as usize;
    let stood = written.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(stood, credit.div_ceil(16 * 1024 + 64), "as much as the credit allows");
    assert!(!writer.is_finished());

    let mut read = 0;
    while let Some(payload) = bounded(slow.next()).await {
        read += payload.unwrap().len();
    }
    assert_eq!(read, 64 * 16 * 1024);
    bounded(writer).await.unwrap();
}

#[tokio::test]
async fn a_message_larger_than_the_credit_passes() {
    let (a, mut b) = pair().await;
    let large = Bytes::from(vec![7; 9 * 1024 * 1024]);
    let mut at_a = a.open(2, Open { payload: large.clone(), ..talk() }).await;
    let Arrived { open, exchange: mut at_b, .. } = b.next().await;
    assert!(open.payload == large);
    at_a.send(large.clone(), false).await.unwrap();
    let small = tokio::spawn(async move { at_a.send(Bytes::from_static(b"small"), true).await.map(|()| at_a) });
    assert!(bounded(at_b.next()).await == Some(Ok(large)));
    assert_eq!(bounded(at_b.next()).await, Some(Ok(Bytes::from_static(b"small"))));
    bounded(small).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_before_it_is_sent() {
    let limits = Limits { message_bytes_max: 1000, ..Limits::default() };
    let (a, mut b) = pair_of(Config { limits, ..Config::new(run(1, 1)) }, Config::new(run(2, 1))).await;
    let payload = Bytes::from(vec![0; 1001]);
    let refused = a.mesh.open(NodeId(2), Open { payload: payload.clone(), ..talk() }).await;
    assert_eq!(refused.err(), Some(NotSent::TooLarge));
    let mut at_a = a.open(2, talk()).await;
    assert_eq!(at_a.send(payload.clone(), false).await, Err(Broken::TooLarge));
    // The exchange goes on.
    at_a.send(payload.slice(..1000), true).await.unwrap();
    assert_eq!(bounded(b.next().await.exchange.next()).await.unwrap().unwrap().len(), 1000);
}

#[tokio::test]
async fn a_deadline_ends_both_ends() {
    let (a, mut b) = pair().await;
    let begun = Instant::now();
    let within = Duration::from_millis(150);
    let mut at_a = a.open(2, Open { within: Some(within), ..talk() }).await;
    let mut at_b = b.next().await.exchange;
    at_b.send(Bytes::from_static(b"in time"), false).await.unwrap();
    assert_eq!(bounded(at_b.broken()).await, Broken::Deadline);
    assert_eq!(bounded(at_a.broken()).await, Broken::Deadline);
    assert!(begun.elapsed() >= within);
    assert_eq!(at_b.send(Bytes::new(), false).await, Err(Broken::Deadline));
    assert_eq!(bounded(at_b.next()).await, Some(Err(Broken::Deadline)));
    assert_eq!(bounded(at_a.next()).await, Some(Ok(Bytes::from_static(b"in time"))), "what arrived comes first");
    assert_eq!(bounded(at_a.next()).await, Some(Err(Broken::Deadline)));

    // Deadlines in any order, each on its own.
    let mut later = a.open(2, Open { within: Some(Duration::from_secs(60)), ..talk() }).await;
    let mut sooner = a.open(2, Open { within: Some(Duration::from_millis(20)), ..talk() }).await;
    assert_eq!(bounded(sooner.broken()).await, Broken::Deadline);
    later.send(Bytes::new(), false).await.unwrap();
}

#[tokio::test]
async fn dropping_one_end_resets_the_other() {
    let (a, mut b) = pair().await;

    let at_a = a.open(2, question("cancelled")).await;
    let mut at_b = b.next().await.exchange;
    assert_eq!(bounded(at_b.next()).await, None);
    drop(at_a);
    assert_eq!(bounded(at_b.broken()).await, Broken::Reset, "who works on an answer is told");
    assert_eq!(at_b.send(Bytes::new(), true).await, Err(Broken::Reset));

    let mut at_a = a.open(2, question("refused")).await;
    drop(b.next().await);
    assert_eq!(bounded(at_a.next()).await, Some(Err(Broken::Reset)));

    // The halves: either one that was not at its end.
    let (sending, mut receiving) = a.open(2, talk()).await.split();
    let (at_b, _b_in) = b.next().await.exchange.split();
    drop(sending);
    assert_eq!(bounded(receiving.next()).await, Some(Err(Broken::Reset)));
    let (mut sending, receiving) = a.open(2, talk()).await.split();
    let mut other = b.next().await.exchange;
    sending.send(Bytes::from_static(b"said"), true).await.unwrap();
    drop(receiving);
    assert_eq!(bounded(other.next()).await, Some(Ok(Bytes::from_static(b"said"))));
    assert_eq!(bounded(other.broken()).await, Broken::Reset);
    drop(at_b);

    // An answer and its end are read although the other side went away at once.
    let (_sending, receiving) = a.open(2, talk()).await.split();
    let mut at_b = b.next().await.exchange;
    at_b.send(Bytes::from_static(b"answer"), true).await.unwrap();
    drop(at_b);
    let read: Vec<_> = bounded(receiving.collect()).await;
    assert_eq!(read, [Ok(Bytes::from_static(b"answer"))]);
}

#[tokio::test]
async fn too_many_exchanges_are_refused_as_not_executed() {
    let limits = Limits { exchanges_max: 2, ..Limits::default() };
    let (a, mut b) = pair_of(Config::new(run(1, 1)), Config { limits, ..Config::new(run(2, 1)) }).await;
    let (_first, _second) = (a.open(2, talk()).await, a.open(2, talk()).await);
    let mut third = a.open(2, talk()).await;
    assert_eq!(bounded(third.broken()).await, Broken::Unsent);
    drop(b.next().await);
    let mut fourth = a.open(2, question("room again")).await;
    b.next().await;
    b.next().await.exchange.send(Bytes::new(), true).await.unwrap();
    assert_eq!(bounded(fourth.next()).await, None);
}

#[tokio::test]
async fn one_text_for_many_exchanges_reaches_each_in_its_order_and_is_there_once() {
    const MANY: usize = 1000;
    let (a, mut b) = pair().await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..MANY {
        ours.push(a.open(2, question("listen")).await);
        theirs.push(b.next().await.exchange);
    }
    let text = Bytes::from(vec![b'x'; 100]);
    for (at, exchange) in theirs.iter_mut().enumerate() {
        exchange.send(Bytes::from(at.to_string()), false).await.unwrap();
        exchange.send(Message { head: Bytes::from_static(b"a"), body: text.clone() }, false).await.unwrap();
    }
    for exchange in &mut theirs {
        exchange.send(Message { head: Bytes::from_static(b"a"), body: text.clone() }, false).await.unwrap();
    }
    for exchange in &mut theirs {
        exchange.send(Bytes::new(), true).await.unwrap();
    }
    let mut texts = std::collections::BTreeSet::new();
    for (at, exchange) in ours.iter_mut().enumerate() {
        assert_eq!(bounded(exchange.next()).await, Some(Ok(Bytes::from(at.to_string()))));
        for _ in 0..2 {
            let message = bounded(exchange.next_message()).await.expect("a message").expect("it arrived");
            assert_eq!((&message.head[..], &message.body), (&b"a"[..], &text));
            texts.insert(message.body.as_ptr());
        }
        assert_eq!(bounded(exchange.next()).await, None);
    }
    // The first of each leaves behind another message, so with a frame of its own; those of the second round together.
    assert!(texts.len() < MANY + MANY / 2, "{} copies", texts.len());
}
