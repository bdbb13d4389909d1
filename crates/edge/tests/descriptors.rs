//! Connections leave descriptors for everything else. Alone in its binary, because it bounds those of the process.

#![cfg(target_os = "linux")]

mod common;

use common::raw::Raw;
use common::{Node, within};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MAX: u64 = 320;
/// What is kept for others of so many.
const RESERVE: usize = 64;

async fn health(raw: &mut Raw) -> u16 {
    raw.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    raw.answer().await.0.status
}

#[tokio::test]
async fn clients_leave_the_reserve_and_come_in_again() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(MAX), ..limit }).expect("a smaller limit");
    let node = Node::start(|_| ()).await;
    let mut inside = Vec::new();
    // Each takes two of this process: one as a client.
    let refused = loop {
        let mut raw = Raw::connect(node.http1).await;
        match health(&mut raw).await {
            200 => inside.push(raw),
            status => break status,
        }
        assert!(inside.len() < MAX as usize, "nobody was refused");
    };
    assert_eq!(refused, 503);
    assert!(inside.len() > 100, "only {} came in", inside.len());
    // Clients of this test are no connections of the node: they may use up the reserve, as files of a journal would.
    let mut files: Vec<File> = Vec::new();
    let error = loop {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => break error,
        }
    };
    assert!(files.len() >= RESERVE - 4, "{} were left, and then {error}", files.len());
    // Now there is none at all: those inside are served, and whoever comes waits or is closed until there is one again.
    let (first, rest) = inside.split_first_mut().expect("some");
    assert_eq!(health(first).await, 200);
    files.truncate(files.len() - 1);
    let mut waits = Raw::connect(node.http1).await;
    assert_eq!(health(&mut rest[0]).await, 200);
    drop(files);
    inside.truncate(50);
    // It came in, or was told that it does not, or was closed because not even a descriptor for that was left.
    let _ = within(waits.io.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
    let mut first = [0; 12];
    let heard = matches!(within(waits.io.read_exact(&mut first)).await, Ok(12));
    assert!(!heard || [&b"200"[..], b"503"].contains(&&first[9..]), "{:?}", String::from_utf8_lossy(&first));
    loop {
        // The node sees the end of those that left when it comes to it.
        match health(&mut Raw::connect(node.http1).await).await {
            200 => break,
            status => assert_eq!(status, 503),
        }
    }
    assert_eq!(File::open("/none").expect_err("none").kind(), ErrorKind::NotFound);
    node.stop().await;
}
