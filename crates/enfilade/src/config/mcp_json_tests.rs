use super::*;

fn env(name: &str) -> Option<String> {
    (name == "TOKEN").then(|| "t0ken".to_owned())
}

fn read(json: &str) -> Result<Vec<Found>, Vec<Fault>> {
    upstreams(serde_json::from_str(json).expect(json), &env)
}

fn one(json: &str) -> enfilade_upstream::Config {
    let mut found = read(json).expect(json);
    assert_eq!(found.len(), 1, "{json}");
    found.remove(0).upstream
}

#[test]
fn stdio_as_hosts_write_it() {
    let upstream = one(r#"{"mcpServers": {"files": {"command": "npx", "args": ["-y", "server", "${TOKEN}"],
        "env": {"A": "b", "KEY": "${env:TOKEN}", "PORT": 8080, "DEBUG": true}, "cwd": "/tmp"}}}"#);
    assert_eq!(upstream.name, "files");
    assert_eq!(upstream.command.as_deref(), Some("npx"));
    assert_eq!(upstream.args, ["-y", "server", "t0ken"]);
    let env: Vec<(&str, &str)> = upstream.env.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(env, [("A", "b"), ("DEBUG", "true"), ("KEY", "t0ken"), ("PORT", "8080")]);
    assert_eq!(upstream.cwd.as_deref(), Some(std::path::Path::new("/tmp")));
    assert_eq!(upstream.url, None);
}

#[test]
fn http_in_every_spelling() {
    for kind in ["", r#""type": "http","#, r#""type": "streamable-http","#, r#""type": "streamableHttp","#] {
        for root in ["mcpServers", "servers"] {
            let upstream = one(&format!(
                r#"{{"inputs": [], "{root}": {{"a": {{{kind} "url": "https://x/mcp?k=${{TOKEN}}",
                "headers": {{"Authorization": "Bearer ${{TOKEN}}"}}}}}}}}"#
            ));
            assert_eq!(upstream.url.as_deref(), Some("https://x/mcp?k=t0ken"));
            assert_eq!(upstream.headers["Authorization"], "Bearer t0ken");
            assert_eq!(upstream.command, None);
        }
    }
}

#[test]
fn keeps_the_order_and_skips_what_is_disabled() {
    let found = read(
        r#"{"mcpServers": {"zeta": {"command": "z"}, "off": {"command": "o", "disabled": true},
        "Alpha Beta": {"command": "a", "autoApprove": ["x"]}}}"#,
    );
    let names: Vec<String> = found.expect("good").into_iter().map(|one| one.upstream.name).collect();
    assert_eq!(names, ["zeta", "alpha-beta"]);
}

#[test]
fn says_what_is_wrong_and_where() {
    let table = [
        (r#"{}"#, "", "neither"),
        (r#"{"mcpServers": {}, "servers": {}}"#, "", "both"),
        (r#"{"mcpServers": {"a": {"type": "sse", "url": "http://x/sse"}}}"#, "mcpServers/a/type", "HTTP+SSE"),
        (r#"{"mcpServers": {"a": {"type": "ws", "url": "ws://x"}}}"#, "mcpServers/a/type", "unknown type \"ws\""),
        (r#"{"mcpServers": {"a": {}}}"#, "mcpServers/a/type", "neither"),
        (r#"{"mcpServers": {"a": {"command": "c", "url": "http://x"}}}"#, "mcpServers/a/type", "both"),
        (r#"{"mcpServers": {"a": {"type": "http"}}}"#, "mcpServers/a", "needs \"url\""),
        (r#"{"servers": {"a": {"type": "stdio"}}}"#, "servers/a", "needs \"command\""),
        (r#"{"mcpServers": {"a": {"command": "${NO}"}}}"#, "mcpServers/a/command", "NO is not set"),
        (r#"{"mcpServers": {"a": {"command": "c", "args": ["${NO}"]}}}"#, "mcpServers/a/args", "NO is not set"),
        (r#"{"mcpServers": {"a": {"command": "c", "env": {"K": "${NO}"}}}}"#, "mcpServers/a/env/K", "NO is not set"),
        (r#"{"mcpServers": {"a": {"url": "${NO}"}}}"#, "mcpServers/a/url", "NO is not set"),
        (
            r#"{"mcpServers": {"a": {"url": "u", "headers": {"H": "${NO}"}}}}"#,
            "mcpServers/a/headers/H",
            "NO is not set",
        ),
        (r#"{"mcpServers": {"A b": {"command": "c"}, "a.b": {"command": "c"}}}"#, "mcpServers/a.b", "\"A b\""),
        (r#"{"mcpServers": {"--": {"command": "c"}}}"#, "mcpServers/--", "no upstream name"),
    ];
    for (json, path, text) in table {
        let faults = read(json).expect_err(json);
        assert_eq!(faults.len(), 1, "{json}");
        assert_eq!(faults[0].path.join("/"), path, "{json}");
        assert!(faults[0].text.contains(text), "{json}: {}", faults[0].text);
    }
}

#[test]
fn all_faults_are_reported() {
    let faults = read(r#"{"mcpServers": {"a": {}, "b": {"command": "${NO}"}, "c": {"command": "c"}}}"#);
    assert_eq!(faults.expect_err("two faults").len(), 2);
}

#[test]
fn names_become_upstream_names() {
    let table = [
        ("files", Some("files")),
        ("GitHub", Some("github")),
        ("my_server (v2)", Some("my-server-v2")),
        ("@scope/name", Some("scope-name")),
        ("21st-magic", Some("mcp-21st-magic")),
        ("Ünïcode", Some("n-code")),
        ("…", None),
        ("", None),
        ("abcdefghijklmnopqrstuvwxyz01234-6789", Some("abcdefghijklmnopqrstuvwxyz01234")),
    ];
    for (name, expected) in table {
        assert_eq!(normalise(name).as_deref(), expected, "{name}");
    }
}
