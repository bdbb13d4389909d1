//! Roles apart: three nodes hold the registry, two own sessions, two take clients. Real processes; each kind is killed.

mod common;

use common::client::{Client, Kind, initialize, text_of};
use common::node::{Node, until};
use common::wire::Wire;
use common::{Folder, Server, run};
use serde_json::json;
use std::time::{Duration, Instant};

/// Sessions that are opened to see what memory they take, and as many before, so that everything else has its size.
const SESSIONS: usize = 1_000;

/// Most that an edge may grow per session, in bytes: it keeps none, some pages are noise. With a replica it would be 5,000,
/// the log's memory included.
const EDGE_BYTES_MAX: u64 = 1_000;

struct World {
    folder: Folder,
    demo: Server,
    registries: Vec<Node>,
    owners: Vec<Node>,
    edges: Vec<Node>,
}

impl World {
    fn start() -> Self {
        let folder = Folder::new();
        assert_eq!(run(&["keys", "--out", &folder.text("keys")]).status.code(), Some(0));
        let demo = Server::start(&["--log", "off", "demo", "--name", "only"]);
        let mut world = Self { folder, demo, registries: vec![], owners: vec![], edges: vec![] };
        for at in 0..3 {
            let node = world.begin(&format!("registry-{at}"), "registry");
            world.registries.push(node);
        }
        world.registries.iter_mut().for_each(Node::serves);
        // An owner is ready when the slots have owners; an edge as well.
        world.owners = vec![world.begin("owner-0", "owner"), world.begin("owner-1", "owner")];
        world.edges = vec![world.begin("edge-0", "edge"), world.begin("edge-1", "edge")];
        world.owners.iter_mut().chain(&mut world.edges).for_each(Node::serves);
        world
    }

    /// Begins a node with one role. Only owners know the upstream. It asks the registries first, at their present ports.
    fn begin(&self, name: &str, role: &str) -> Node {
        let seeds: Vec<&String> = self.registries.iter().map(|node| &node.gossip).collect();
        let upstreams = match role {
            "owner" => format!("upstreams: [{{name: only, url: \"{}\"}}]\n", self.demo.url),
            _ => String::new(),
        };
        let yaml = format!(
            "listen: [{{address: \"127.0.0.1:0\"}}]\ndata_dir: {}\n{upstreams}\
             cluster: {{node: {name}, roles: [{role}], voters: [registry-0, registry-1, registry-2], seeds: {seeds:?}, \
             keys: {}}}\n",
            self.folder.text(name),
            self.folder.text("keys"),
        );
        let file = self.folder.file(&format!("{name}.yaml"), &yaml);
        Node::begin(&["--config", &file, "--link", "127.0.0.1:0", "--gossip", "127.0.0.1:0"])
    }

    /// Every session is served at this edge; a request may be refused with "try again" while it changes hands.
    fn serves_all(&self, edge: usize, clients: &[Client]) -> Duration {
        let begun = Instant::now();
        for client in clients {
            let mut there = client.at(&self.edges[edge].ready);
            until("the session is served", || is_served(&mut there));
        }
        begun.elapsed()
    }
}

/// Whether a call is answered; it may be refused with "try again".
fn is_served(client: &mut Client) -> bool {
    let body = client.body(5, "tools/call", json!({"name": "echo", "arguments": {"text": "x"}}));
    let named = client.session.is_none().then_some(("Mcp-Name", "echo"));
    let answer = client.post("tools/call", named.as_slice(), &body);
    assert_ne!(answer.status, 404, "a session was lost: {answer:?}");
    answer.status == 200 && text_of(&answer.message(5)) == Some("x")
}

/// Memory of a process now, in bytes.
fn resident(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.child.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

/// The id of a new session. On a busy machine a lease may be late; then the client is told to try again, and does.
fn session(wire: &mut Wire) -> String {
    let mut session = None;
    until("a session is opened", || {
        let answer = wire.ask("POST", &[], &initialize(json!({})));
        assert!([200, 503].contains(&answer.status), "{answer:?}");
        session = answer.header("Mcp-Session-Id").map(str::to_owned);
        session.is_some()
    });
    session.expect("waited for")
}

/// A client with a session, opened at an edge.
fn client(edge: &Node) -> Client {
    let mut client = Client::new(Kind::Modern, &edge.ready);
    client.session = Some(session(&mut client.wire));
    client
}

/// Opens sessions at an edge, over one connection.
fn open(edge: &Node, count: usize) {
    let mut wire = Wire::to(&edge.ready);
    (0..count).for_each(|_| drop(session(&mut wire)));
}

#[test]
fn each_kind_of_node_is_killed_and_no_session_is_lost() {
    let mut world = World::start();
    assert!(world.registries.iter().chain(&world.owners).all(|node| node.ready.is_empty()));
    let clients: Vec<Client> = (0..30).map(|at| client(&world.edges[at % 2])).collect();
    world.serves_all(0, &clients);
    until("a request without a session is served", || is_served(&mut Client::new(Kind::Modern, &world.edges[1].ready)));

    world.edges[0].kill();
    println!("an edge killed: all served at the other after {:?}", world.serves_all(1, &clients));
    let again = world.begin("edge-0", "edge");
    world.edges[0] = again;
    world.edges[0].serves();
    world.serves_all(0, &clients);

    for at in 0..3 {
        world.registries[at].kill();
        let served = world.serves_all(at % 2, &clients);
        let begun = Instant::now();
        session(&mut Wire::to(&world.edges[0].ready));
        println!("registry {at} killed: all served after {served:?}, a new session after {:?} more", begun.elapsed());
        let again = world.begin(&format!("registry-{at}"), "registry");
        world.registries[at] = again;
        world.registries[at].serves();
    }

    for at in 0..2 {
        world.owners[at].kill();
        let took = world.serves_all(at, &clients);
        println!("owner {at} killed: all served at the other after {took:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
        let again = world.begin(&format!("owner-{at}"), "owner");
        world.owners[at] = again;
        world.owners[at].serves();
        world.serves_all(1 - at, &clients);
    }
    for mut client in clients {
        until("the session ends", || {
            let status = client.at(&world.edges[1].ready).end().status;
            assert_ne!(status, 404, "a session was lost");
            status == 200
        });
        let body = client.body(9, "tools/list", json!({}));
        assert_eq!(client.at(&world.edges[0].ready).post("tools/list", &[], &body).status, 404);
        drop(client.session.take());
    }
    for node in world.edges.iter_mut().chain(&mut world.owners).chain(&mut world.registries) {
        assert_eq!(node.stop(), Some(0));
    }
}

#[test]
fn an_edge_does_not_grow_with_sessions() {
    let world = World::start();
    open(&world.edges[0], SESSIONS);
    let nodes = || world.edges.iter().chain(&world.owners).chain(&world.registries);
    let before: Vec<u64> = nodes().map(resident).collect();
    open(&world.edges[0], SESSIONS);
    let grown = |at: usize, node: &Node| resident(node).saturating_sub(before[at]) / SESSIONS as u64;
    let grown: Vec<u64> = nodes().enumerate().map(|(at, node)| grown(at, node)).collect();
    println!(
        "bytes per session: edge {} (took the clients) and {}, owners {} and {}, registries {} {} {}",
        grown[0], grown[1], grown[2], grown[3], grown[4], grown[5], grown[6]
    );
    assert!(grown[1] <= EDGE_BYTES_MAX, "{grown:?}");
    assert!(grown[0] <= EDGE_BYTES_MAX, "{grown:?}");
}

#[test]
fn a_node_that_may_vote_does_not_give_up_its_role() {
    let folder = Folder::new();
    assert_eq!(run(&["keys", "--out", &folder.text("keys")]).status.code(), Some(0));
    let start = |roles: &str| {
        let yaml = format!(
            "listen: [{{address: \"127.0.0.1:0\"}}]\ndata_dir: {}\n\
             upstreams: [{{name: a, url: \"http://127.0.0.1:9/mcp\"}}]\n\
             cluster: {{node: a, roles: [{roles}], voters: [{}], seeds: [\"127.0.0.1:9\"], keys: {}}}\n",
            folder.text("data"),
            if roles.contains("registry") { "a" } else { "b" },
            folder.text("keys"),
        );
        let file = folder.file("a.yaml", &yaml);
        Node::begin(&["--config", &file, "--link", "127.0.0.1:0", "--gossip", "127.0.0.1:0"])
    };
    let mut node = start("edge, owner, registry");
    node.serves();
    assert_eq!(node.stop(), Some(0));
    assert_eq!(start("edge, owner").ends_or_serves(), Some(1));
}
