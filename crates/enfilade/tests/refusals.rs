//! Command lines and configurations that cannot be used: exit code 64, and a line that says what to change where.

mod common;

use common::{Folder, run};

/// Runs `check --config` on a text; gives the exit code and the lines of standard error without the file's path.
fn check(yaml: &str) -> (Option<i32>, Vec<String>) {
    let folder = Folder::new();
    let file = folder.file("c.yaml", yaml);
    let output = run(&["check", "--config", &file]);
    let text = String::from_utf8(output.stderr).expect("text");
    (output.status.code(), text.lines().map(|line| line.replace(&file, "F")).collect())
}

#[test]
fn a_configuration_is_refused_with_its_place() {
    let table = [
        ("upstreams:\n  - name: a\n    url: http://x/m\n    colour: red\n", "F:4:5:", "colour"),
        ("lisen: []\n", "F:1:1:", "lisen"),
        ("listen:\n  - address: 127.0.0.1:0\n    protocol: h3\n", "F:3:15:", "h3"),
        ("limits:\n  idle: 3\n", "F:2:3:", "idle"),
        ("servers:\n  - name: a\n    prefix: sometimes\n", "F:3:13:", "sometimes"),
        ("upstreams:\n  - url: http://x/m\n", "F:2:5:", "name"),
        ("upstreams:\n  - name: a\n    url: http://x/m\n    calls_max: many\n", "F:4:16:", "u64"),
        ("upstreams:\n  - name: a\n   url: http://x\n", "F:3:4:", "block collection"),
        ("upstreams:\n  - name: a\n    name: b\n", "F:3:5:", "duplicate"),
        ("upstreams: []\n", "F:1:12:", "no upstream"),
        ("", "F:", "no upstream"),
        ("upstreams:\n  - name: A\n    url: http://x/m\n", "F:2:11:", "lower-case"),
        ("upstreams:\n  - name: a\n", "F:2:5:", "\"command\" or a \"url\""),
        ("upstreams:\n  - name: a\n    command: c\n    url: http://x/m\n", "F:4:10:", "both"),
        ("upstreams:\n  - name: a\n    url: ftp://x\n", "F:3:10:", "http://"),
        ("upstreams:\n  - name: a\n    url: http://x/m\n    env: {A: b}\n", "F:4:10:", "\"env\" means nothing"),
        ("upstreams:\n  - name: a\n    command: c\n    headers: {A: b}\n", "F:4:14:", "\"headers\" means nothing"),
        ("upstreams:\n  - {name: a, command: c}\n  - {name: a, command: c}\n", "F:3:12:", "taken"),
        ("upstreams: [{name: a, command: c}]\nservers:\n  - name: s\n    upstreams: [b]\n", "F:4:17:", "there are a"),
        ("upstreams: [{name: a, command: c}]\nservers:\n  - name: s\n    path: mcp\n", "F:4:11:", "'/'"),
        ("upstreams: [{name: a, command: c}]\nservers:\n  - name: s\n    path: /healthz\n", "F:4:11:", "is taken"),
        ("upstreams:\n  - name: a\n    command: c\n    processes_max: 1\n", "F:4:20:", "at least 2"),
        (
            "upstreams: [{name: a, command: c}]\nservers:\n  - {name: s, path: /a}\n  - {name: t, path: /a}\n",
            "F:4:21:",
            "the path \"/a\" is taken",
        ),
        (
            "upstreams: [{name: a, command: c}]\nservers:\n  - {name: s, path: /a}\n  - {name: s, path: /b}\n",
            "F:4:12:",
            "the name \"s\" is taken",
        ),
        ("listen:\n  - address: 0.0.0.0:1\nupstreams: [{name: a, command: c}]\n", "F:2:14:", "allow_remote"),
        ("listen: []\nupstreams: [{name: a, command: c}]\n", "F:1:9:", "at least one address"),
        (
            "listen:\n  - address: 127.0.0.1:1\nhealth: 127.0.0.1:1\nupstreams: [{name: a, command: c}]\n",
            "F:3:9:",
            "under \"listen\"",
        ),
        ("hosts: [ok, a/b]\nupstreams: [{name: a, command: c}]\n", "F:1:13:", "host"),
        ("keep_alive_ms: 0\nupstreams: [{name: a, command: c}]\n", "F:1:16:", "keep_alive_ms"),
        ("limits: {session_idle_ms: 0}\nupstreams: [{name: a, command: c}]\n", "F:1:27:", "greater than 0"),
    ];
    for (yaml, place, text) in table {
        let (code, lines) = check(yaml);
        assert_eq!(code, Some(64), "{yaml}{lines:?}");
        assert_eq!(lines.len(), 1, "{yaml}{lines:?}");
        assert!(lines[0].starts_with(place) && lines[0].contains(text), "{yaml}{lines:?}");
    }
}

#[test]
fn a_section_cluster_is_refused_with_its_place() {
    let table = [
        ("cluster: {nodes: 3}", "F:2:11:", "nodes"),
        ("cluster: {node: A, voters: [a], keys: k}", "F:2:17:", "lower-case"),
        ("cluster: {voters: [a], keys: k, seeds: [\"h:1\"]}", "F:2:10:", "node \"\""),
        ("cluster: {name: \"\", node: a, voters: [a], keys: k}", "F:2:17:", "name \"\""),
        ("cluster: {node: a, voters: [a]}", "F:2:10:", "enfilade keys"),
        ("cluster: {node: a, voters: [a], link: \"0.0.0.0:1\"}", "F:2:", "link_advertise"),
        ("cluster: {node: a, voters: [a], keys: k, gossip: \"0.0.0.0:1\"}", "F:2:50:", "gossip_advertise"),
        ("cluster: {node: a, voters: [a], keys: k, gossip_advertise: \"0.0.0.0:1\"}", "F:2:60:", "others can reach"),
        ("cluster: {node: a, voters: [a], keys: k, link_advertise: h}", "F:2:58:", "HOST:PORT"),
        ("cluster: {node: a, voters: [a], keys: k, seeds: [\"h:1\", h]}", "F:2:57:", "HOST:PORT"),
        ("cluster: {node: a, keys: k}", "F:2:10:", "1, 3 or 5 voters"),
        ("cluster: {node: a, voters: [a, b], keys: k}", "F:2:28:", "1, 3 or 5 voters"),
        ("cluster: {node: a, voters: [a, b, b], keys: k}", "F:2:35:", "there already"),
        ("cluster: {node: c, voters: [a], keys: k}", "F:2:10:", "at least one other node"),
        ("cluster: {node: a, voters: [a], keys: k, roles: [edge]}", "F:2:29:", "role registry"),
        ("cluster: {node: a, voters: [b], seeds: [\"h:1\"], keys: k, roles: []}", "F:2:65:", "at least one role"),
        ("cluster: {node: a, voters: [a], keys: k, roles: [king]}", "F:2:50:", "king"),
        ("cluster: {node: a, voters: [a], keys: k, timing: {act_ms: 0}}", "F:2:50:", "act_ms is 0"),
        ("cluster: {node: a, voters: [a], keys: k, timing: {give_away_ms: 2001}}", "F:2:50:", "raise give_away_ms"),
    ];
    for (section, place, text) in table {
        let (code, lines) = check(&format!("upstreams: [{{name: a, command: c}}]\n{section}\n"));
        assert_eq!(code, Some(64), "{section}\n{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with(place) && line.contains(text)), "{section}\n{lines:?}");
    }
    let good = "upstreams: [{name: a, command: c}]\ncluster: {node: a, voters: [a], keys: k}\n";
    assert_eq!(check(good), (Some(0), vec![]));
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let yaml = "upstreams:\n  - {name: A, command: c}\n  - {name: b, url: \"ftp://x\"}\nservers:\n  - {name: s, upstreams: [x, y]}\n";
    let (code, lines) = check(yaml);
    let places: Vec<&str> = lines.iter().map(|line| &line[..line.find(": ").unwrap_or(0)]).collect();
    assert_eq!((code, places), (Some(64), vec!["F:2:12", "F:3:20", "F:5:27", "F:5:30"]), "{lines:?}");
}

#[test]
fn a_good_configuration_is_accepted_silently() {
    let (code, lines) = check("upstreams: [{name: a, command: c}, {name: b, url: \"https://x/mcp\"}]\n");
    assert_eq!((code, lines), (Some(0), vec![]));
}

#[test]
fn mcp_json_is_refused_with_its_place() {
    let table = [
        ("{\"mcpServers\": {\"a\": {\"command\": \"x\", \"args\": \"no\"}}}", "F:1:50:", "sequence"),
        ("{\"mcpServers\": {\n  \"a\": {\"command\": \"x\"", "F:2:", "EOF"),
        ("{\n  \"mcpServers\": {\n    \"a\": {\"url\": \"ftp://x\"}}}", "F:3:18:", "http://"),
        ("{\"mcpServers\": {\n  \"a\": {\"type\": \"sse\", \"url\": \"http://x/sse\"}}}", "F:2:17:", "HTTP+SSE"),
        ("{\"mcpServers\": {\n  \"a\": {\"command\": \"${ENFILADE_TEST_UNSET}\"}}}", "F:2:20:", "is not set"),
        ("{\"mcpServers\": {}}", "F:1:1:", "no upstream"),
        ("{}", "F:1:1:", "neither"),
    ];
    for (json, place, text) in table {
        let folder = Folder::new();
        let file = folder.file("m.json", json);
        let output = run(&["check", "--mcp-json", &file]);
        let error = String::from_utf8(output.stderr).expect("text").replace(&file, "F");
        assert_eq!(output.status.code(), Some(64), "{json}\n{error}");
        assert!(error.starts_with(place) && error.contains(text), "{json}\n{error}");
    }
}

#[test]
fn an_upstream_is_blamed_on_the_file_that_it_is_from() {
    let folder = Folder::new();
    let yaml = folder.file("c.yaml", "upstreams:\n  - {name: a, command: c}\n");
    let json = folder.file("m.json", "{\"mcpServers\":\n  {\"a\": {\"command\": \"c\"}}}");
    let output = run(&["check", "--config", &yaml, "--mcp-json", &json]);
    let error = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(64));
    assert!(error.starts_with(&format!("{json}:2:9: the name \"a\" is taken")), "{error}");
}

#[test]
fn command_lines_are_refused() {
    let table: [(&[&str], &str); 13] = [
        (&[], "Usage"),
        (&["rise"], "unrecognized subcommand"),
        (&["up", "--listen", "nowhere"], "invalid socket address"),
        (&["up", "--listen", "0.0.0.0:0"], "allow_remote"),
        (&["up", "--listen", "[::]:0"], "allow_remote"),
        (&["up", "--config", "/nonexistent/enfilade.yaml"], "cannot be read"),
        (&["--log", "a=b=c", "up"], "--log"),
        (&["up", "--nodes", "0"], "--nodes"),
        (&["up", "--listen", "127.0.0.1:65534"], "no port for node 3"),
        (&["serve"], "no upstream"),
        (&["serve", "--config", "Cargo.toml", "--seed"], "--seed"),
        (&["keys"], "--out"),
        (&["demo", "--stdio", "--listen", "127.0.0.1:0"], "cannot be used with"),
    ];
    for (args, text) in table {
        let output = run(args);
        let error = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(64), "{args:?} {error}");
        assert!(error.contains(text), "{args:?} {error}");
        assert_eq!(output.stdout, b"", "{args:?}");
    }
    for args in [["--help"], ["--version"]] {
        assert_eq!(run(&args).status.code(), Some(0), "{args:?}");
    }
}
