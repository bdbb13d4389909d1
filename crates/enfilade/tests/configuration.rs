//! The cluster's configuration: applied once, taken by every node, wrong ones change nothing, former ones come back.

mod common;

use common::client::Client;
use common::node::Node;
use common::{Folder, Server, run};
use serde_json::json;

/// Exit code and both streams of a command.
fn said(args: &[&str]) -> (Option<i32>, String) {
    let output = run(args);
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

/// The names of the upstreams whose tools a new session sees.
fn upstreams(url: &str) -> Vec<String> {
    let mut client = Client::legacy(url, json!({}));
    let mut names: Vec<String> =
        client.tools().iter().map(|tool| tool.split_once("__").map_or("", |(name, _)| name).to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn a_configuration_is_applied_once_checked_versioned_and_taken_back() {
    let folder = Folder::new();
    let keys = folder.text("keys");
    assert_eq!(run(&["keys", "--out", &keys]).status.code(), Some(0));
    let demo = |name: &str| Server::start(&["--log", "off", "demo", "--name", name]);
    let (own, first, second) = (demo("own"), demo("first"), demo("second"));
    let start = |name: &str, seeds: &[String]| {
        let yaml = format!(
            "listen: [{{address: \"127.0.0.1:0\"}}]\ndata_dir: {}\nupstreams: [{{name: own, url: \"{url}\"}}, {{name: own2, url: \"{url}\"}}]\n\
             cluster: {{node: {name}, voters: [a, b, c], seeds: {seeds:?}, keys: {keys}}}\n",
            folder.text(name),
            url = own.url,
        );
        let file = folder.file(&format!("{name}.yaml"), &yaml);
        Node::begin(&["--config", &file, "--link", "127.0.0.1:0", "--gossip", "127.0.0.1:0"])
    };
    let mut a = start("a", &[]);
    let seeds = [a.gossip.clone()];
    let (mut b, mut c) = (start("b", &seeds), start("c", &seeds));
    [&mut a, &mut b, &mut c].into_iter().for_each(Node::serves);
    let config = |what: &[&str]| {
        said(&[["--log", "off", "config"].as_slice(), what, &["--node", &b.link, "--keys", &keys]].concat())
    };
    let document = |name: &str, two: &str| {
        let yaml = format!(
            "limits: {{session_idle_ms: 77000}}\nupstreams:\n- {{name: first, url: \"{}\"}}\n- {{name: {two}, url: \"{}\"}}\n",
            first.url, second.url
        );
        folder.file(name, &yaml)
    };

    assert!(config(&["show"]).1.contains("nobody applied"));
    // What is wrong is said with its place, and changes nothing.
    let same = document("same.yaml", "first");
    let secret =
        folder.file("secret.yaml", "upstreams: [{name: a, url: \"http://h/\", headers: {Authorization: s3cret}}]\n");
    let listen = folder.file("listen.yaml", "listen: []\n");
    let unset =
        folder.file("unset.yaml", "upstreams: [{name: a, url: \"http://h/\", headers: {X: \"${NOBODY_SET_THIS}\"}}]\n");
    for (file, code, why) in [
        (&same, 64, "is taken already"),
        (&secret, 64, "all nodes write this down"),
        (&listen, 64, "listen"),
        (&unset, 1, "NOBODY_SET_THIS is not set"),
    ] {
        let refused = config(&["apply", file]);
        assert!(refused.0 == Some(code) && refused.1.contains(why), "{file}: {refused:?}");
        assert!(!refused.1.contains("s3cret"), "{refused:?}");
    }
    assert!(config(&["show"]).1.contains("nobody applied"));

    let applied = config(&["apply", &document("one.yaml", "second")]);
    assert!(applied.0 == Some(0) && applied.1.contains("version 1 is applied"), "{applied:?}");
    let shown = config(&["show"]);
    assert!(shown.1.contains("version 1; this node runs version 0") && shown.1.contains("77000"), "{shown:?}");
    let again = config(&["apply", &document("two.yaml", "third")]);
    assert!(again.1.contains("version 2 is applied"), "{again:?}");
    let reverted = config(&["revert", "1"]);
    assert!(reverted.1.contains("version 3 is applied"), "{reverted:?}");
    let history = config(&["history"]).1;
    assert!(
        history.contains("version 3") && history.contains("puts back 1") && history.contains("version 2"),
        "{history}"
    );
    assert_eq!(config(&["revert", "9"]).0, Some(1));
    let finalised = said(&["--log", "off", "finalise", "--node", &b.link, "--keys", &keys]);
    assert_eq!(finalised.0, Some(0), "{finalised:?}");

    // Nodes take it one after the other; a session that was there goes on. What a client sees meanwhile depends on the
    // node that runs its session.
    assert_eq!(upstreams(&a.url()), ["own", "own2"]);
    let session = Client::legacy(&a.url(), json!({}));
    let tools = session.at(&a.url()).tools().iter().filter(|tool| tool.starts_with("own__")).count();
    let mut nodes = [a, b, c];
    for (place, name) in ["a", "b", "c"].into_iter().enumerate() {
        let seeds: Vec<String> = nodes.iter().map(|node| node.gossip.clone()).collect();
        assert_eq!(nodes[place].stop(), Some(0));
        nodes[place] = start(name, &seeds);
        nodes[place].serves();
        session.at(&nodes[place].url()).ask("ping", json!({}));
    }
    for node in &mut nodes {
        assert_eq!(upstreams(&node.url()), ["first", "second"]);
        assert_eq!(session.at(&node.url()).tools().iter().filter(|tool| tool.starts_with("second__")).count(), tools);
    }
    let shown = said(&["--log", "off", "config", "show", "--node", &nodes[0].link, "--keys", &keys]);
    assert!(shown.1.contains("version 3; this node runs version 3"), "{shown:?}");
}
