//! Backup, restore and recovery as an operator does them (docs/RUNBOOK.md): real processes, real losses.

mod common;

use common::client::Client;
use common::node::{Node, is_served};
use common::{Folder, LIMIT, Server, Signal, run, send};
use serde_json::json;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

/// What the nodes of a test have in common.
struct World {
    folder: Folder,
    keys: String,
    demo: Server,
    log: SyncSender<String>,
    heard: Receiver<String>,
}

impl World {
    fn new() -> Self {
        let folder = Folder::new();
        let keys = folder.text("keys");
        assert_eq!(run(&["keys", "--out", &keys]).status.code(), Some(0));
        let demo = Server::start(&["--log", "off", "demo", "--name", "only"]);
        // More lines than a test's nodes write; beyond it they wait.
        let (log, heard) = sync_channel(100_000);
        Self { folder, keys, demo, log, heard }
    }

    /// Begins a node of that name with its data in that folder.
    fn begin(&self, name: &str, data: &str, seeds: &[&Node]) -> Node {
        let seeds: Vec<&str> = seeds.iter().map(|node| node.gossip.as_str()).collect();
        let yaml = format!(
            "listen: [{{address: \"127.0.0.1:0\"}}]\ndata_dir: {}\nupstreams: [{{name: only, url: \"{}\"}}]\n\
             cluster: {{node: {name}, voters: [a, b, c], seeds: {seeds:?}, keys: {}}}\n",
            self.folder.text(data),
            self.demo.url,
            self.keys
        );
        let file = self.folder.file(&format!("{data}.yaml"), &yaml);
        Node::begin_heard(&["--config", &file, "--link", "127.0.0.1:0", "--gossip", "127.0.0.1:0"], Some(&self.log))
    }

    /// Begins three nodes, the last two with the first for a seed, and waits until they serve.
    fn three(&self, data: [&str; 3]) -> [Node; 3] {
        let a = self.begin("a", data[0], &[]);
        let (b, c) = (self.begin("b", data[1], &[&a]), self.begin("c", data[2], &[&a]));
        let mut nodes = [a, b, c];
        nodes.iter_mut().for_each(Node::serves);
        nodes
    }

    fn backup(&self, node: &Node, out: &str, more: &[&str]) -> Output {
        run(&[["--log", "off", "backup", "--node", &node.link, "--keys", &self.keys, "--out", out].as_slice(), more]
            .concat())
    }

    /// Waits until a node logs this.
    fn hears(&self, what: &str) {
        let mut lines = Vec::new();
        while !lines.last().is_some_and(|line: &String| line.contains(what)) {
            lines.push(self.heard.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("not {what:?}: {lines:#?}")));
        }
    }
}

/// Both streams and the exit code.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

/// The number behind a word in what a command said.
fn number(text: &str, word: &str) -> u64 {
    let after = text.split_once(word).unwrap_or_else(|| panic!("no {word:?}: {text}")).1.trim_start();
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number behind {word:?}: {text}"))
}

#[test]
fn a_backup_under_load_is_restored_with_every_session_from_before_it() {
    let world = World::new();
    let [mut a, mut b, mut c] = world.three(["a", "b", "c"]);
    let urls = [a.url(), b.url(), c.url()];
    let file = world.folder.text("backup");
    let open = |count: usize| (0..count).map(|n| Client::legacy(&urls[n % 3], json!({}))).collect::<Vec<_>>();

    let clients = open(30);
    let before = clients.len() as u64;
    let stop = AtomicBool::new(false);
    let (written, more) = std::thread::scope(|scope| {
        let load = || std::iter::from_fn(|| (!stop.load(Ordering::Relaxed)).then(|| open(3))).flatten().collect();
        let load = [(); 2].map(|()| scope.spawn(load));
        let written = world.backup(&b, &file, &[]);
        stop.store(true, Ordering::Relaxed);
        let more: [Vec<Client>; 2] = load.map(|thread| thread.join().expect("the load"));
        (said(&written), more.map(|clients| clients.len()).iter().sum::<usize>())
    });
    println!("{} sessions before the backup, {} opened meanwhile\n{}", before, more, written.1);
    assert_eq!(written.0, Some(0), "{}", written.1);
    let again = said(&world.backup(&b, &file, &[]));
    assert!(again.0 == Some(1) && again.1.contains("never replaces"), "{again:?}");

    let (code, text) = said(&run(&["verify", &file]));
    assert_eq!(code, Some(0), "{text}");
    let sessions = number(&text, "sessions");
    assert!((before..=before + more as u64).contains(&sessions), "{text}");
    let mut bytes = std::fs::read(&file).expect("the backup");
    *bytes.last_mut().expect("not empty") ^= 1;
    let damaged = world.folder.text("damaged");
    std::fs::write(&damaged, bytes).expect("a copy");
    for command in [vec!["verify", &damaged], vec!["restore", &damaged, "--data-dir", &world.folder.text("a2")]] {
        let refused = said(&run(&command));
        assert!(refused.0 == Some(1) && refused.1.contains("does not match its digest"), "{refused:?}");
    }

    [&mut a, &mut b, &mut c].into_iter().for_each(Node::kill);
    ["a", "b", "c"].iter().for_each(|data| std::fs::remove_dir_all(world.folder.path(data)).expect("wiped"));
    let restore = ["restore", &file, "--data-dir", &world.folder.text("a")];
    let restored = said(&run(&restore));
    println!("{}", restored.1);
    assert!(restored.0 == Some(0) && restored.1.contains("not in the backup"), "{restored:?}");
    let refused = said(&run(&restore));
    assert!(refused.0 == Some(1) && refused.1.contains("is not empty"), "{refused:?}");

    let begun = Instant::now();
    let [mut a, b, c] = world.three(["a", "b", "c"]);
    println!("three nodes are ready {:?} after the first one's start", begun.elapsed());
    for client in &clients {
        [&a, &b, &c].into_iter().for_each(|node| is_served(client, node));
    }
    println!("all sessions were served at all nodes after {:?}", begun.elapsed());
    // One of three may be lost again, the first one too.
    world.hears("more nodes vote");
    println!("three voted after {:?}", begun.elapsed());
    a.kill();
    for client in &clients {
        [&b, &c].into_iter().for_each(|node| is_served(client, node));
    }
    println!("all sessions were served without the first node after {:?}", begun.elapsed());
    Client::legacy(&b.url(), json!({}));
}

#[test]
fn what_is_left_of_a_lost_quorum_goes_on_and_the_former_nodes_do_not() {
    let world = World::new();
    let [mut a, mut b, mut c] = world.three(["a", "b", "c"]);
    let clients: Vec<Client> =
        [&a, &b, &c, &a, &b, &c].into_iter().map(|node| Client::legacy(&node.url(), json!({}))).collect();
    // What is acknowledged is on two of three: this shows that the one that will be left has it.
    let before = said(&world.backup(&a, &world.folder.text("before"), &[]));
    assert!(before.0 == Some(0) && number(&before.1, "sessions") == 6, "{before:?}");
    b.kill();
    c.kill();
    let data = world.folder.text("a");
    let recover = |more: &[&str]| said(&run(&[["recover", "--data-dir", &data].as_slice(), more].concat()));

    // As long as it runs: no backup that pretends to be whole, and no recovery.
    let refused = said(&world.backup(&a, &world.folder.text("whole"), &[]));
    assert!(refused.0 == Some(1) && refused.1.contains("no quorum"), "{refused:?}");
    let stale = said(&world.backup(&a, &world.folder.text("stale"), &["--stale"]));
    assert!(stale.0 == Some(0) && number(&stale.1, "sessions") == 6, "{stale:?}");
    let refused = recover(&[]);
    assert!(refused.0 == Some(1) && refused.1.contains("in use by another process"), "{refused:?}");
    a.kill();

    let report = recover(&[]);
    println!("{}", report.1);
    assert_eq!((report.0, number(&report.1, "sessions")), (Some(64), 6), "{report:?}");
    let last = number(&report.1, "--accept-loss-after");
    let wrong = recover(&["--accept-loss-after", &(last + 1).to_string()]);
    assert!(wrong.0 == Some(64) && wrong.1.contains("nothing was changed"), "{wrong:?}");
    let done = recover(&["--accept-loss-after", &last.to_string()]);
    println!("{}", done.1);
    assert_eq!(done.0, Some(0), "{done:?}");
    let again = recover(&["--accept-loss-after", &last.to_string()]);
    assert!(again.0 == Some(1) && again.1.contains("the only voter already"), "{again:?}");

    let begun = Instant::now();
    let mut a = world.begin("a", "a", &[]);
    a.serves();
    println!("the recovered node is ready after {:?}", begun.elapsed());
    clients.iter().for_each(|client| is_served(client, &a));
    println!("it served all sessions after {:?}", begun.elapsed());
    // A former voter that was not lost after all is turned away; new ones are taken in.
    let mut former = world.begin("b", "b", &[&a]);
    assert_eq!(former.ends_or_serves(), Some(1));
    world.hears("removed from the cluster for ever");
    let mut b = world.begin("b", "b2", &[&a]);
    let mut c = world.begin("c", "c2", &[&a]);
    b.serves();
    c.serves();
    world.hears("more nodes vote");
    a.kill();
    for client in &clients {
        [&b, &c].into_iter().for_each(|node| is_served(client, node));
    }
    Client::legacy(&b.url(), json!({}));
}

#[test]
fn a_former_majority_that_only_stood_still_ends_when_it_hears_of_the_recovery() {
    let world = World::new();
    let [mut a, mut b, mut c] = world.three(["a", "b", "c"]);
    let client = Client::legacy(&a.url(), json!({}));
    for node in [&b, &c] {
        send(node.child.id(), Signal::SIGSTOP);
    }
    a.kill();
    let data = world.folder.text("a");
    let recover = |more: &[&str]| said(&run(&[["recover", "--data-dir", &data].as_slice(), more].concat()));
    let last = number(&recover(&[]).1, "--accept-loss-after").to_string();
    assert_eq!(recover(&["--accept-loss-after", &last]).0, Some(0));
    let mut a = world.begin("a", "a", &[&b, &c]);
    a.serves();
    is_served(&client, &a);

    // Two of the three that voted: on their own they would go on.
    let begun = Instant::now();
    for node in [&b, &c] {
        send(node.child.id(), Signal::SIGCONT);
    }
    for node in [&mut b, &mut c] {
        assert_eq!(node.ends_or_serves(), Some(1));
    }
    println!("both had ended {:?} after they went on", begun.elapsed());
    world.hears("removed from the cluster for ever");
    is_served(&client, &a);
}
