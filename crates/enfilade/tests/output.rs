//! What the commands print that start nothing.

mod common;

use common::{Folder, run};
use serde_json::Value;

#[test]
fn the_dump_is_complete_and_holds_no_secret() {
    let folder = Folder::new();
    let yaml = "upstreams:\n  - {name: a, command: c, args: [x], env: {KEY: s3cret-1}}\n  \
         - {name: b, url: \"https://x/mcp?key=s3cret-2\", headers: {Authorization: s3cret-3}}\n";
    let file = folder.file("c.yaml", yaml);
    for args in [["dump-config", "--config", &file].as_slice(), &["up", "--dump-config", "--config", &file]] {
        let output = run(args);
        let text = String::from_utf8(output.stdout).expect("text");
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
        let shown =
            ["KEY", "Authorization", "https://x/mcp?", "address: 127.0.0.1:8808", "session_idle_ms", "path: /mcp"];
        for expected in shown {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        // What is printed is a configuration again.
        let again = folder.file("again.yaml", &text);
        assert_eq!(run(&["check", "--config", &again]).status.code(), Some(0), "{text}");
    }
}

#[test]
fn the_command_line_wins() {
    let folder = Folder::new();
    let yaml = "listen: [{address: \"127.0.0.1:1\"}]\ndata_dir: a\nupstreams: [{name: a, command: c}]\n";
    let file = folder.file("c.yaml", yaml);
    let more = ["--listen", "0.0.0.0:2", "--allow-remote", "--data-dir", "b"];
    let output = run(&[["dump-config", "--config", &file].as_slice(), &more].concat());
    let text = String::from_utf8(output.stdout).expect("text");
    for expected in ["address: 0.0.0.0:2", "allow_remote: true", "data_dir: b"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("127.0.0.1:1"), "{text}");
}

#[test]
fn the_schema_is_json_and_closed() {
    let output = run(&["schema"]);
    let schema: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(schema["additionalProperties"], false);
    for key in ["listen", "allow_remote", "hosts", "origins", "limits", "servers", "upstreams", "data_dir"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
}

#[test]
fn the_configuration_in_the_readme_is_good() {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once("```yaml\n").expect("a configuration");
    let (yaml, _) = rest.split_once("```").expect("its end");
    let folder = Folder::new();
    let output = run(&["check", "--config", &folder.file("c.yaml", yaml)]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
