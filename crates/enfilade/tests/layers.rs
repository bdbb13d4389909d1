//! Lower layers never depend on higher ones (docs/ARCHITECTURE.md), and the pure ones on no runtime.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// From the bottom to the top. A crate may use crates of lower layers only.
const LAYERS: [&[&str]; 8] = [
    &["enfilade-mcp", "enfilade-registry"],
    &["enfilade-journal", "enfilade-proto", "enfilade-runtime"],
    &["enfilade-membership", "enfilade-mesh", "enfilade-upstream"],
    &["enfilade-raft", "enfilade-session"],
    &["enfilade-edge"],
    &["enfilade-cluster"],
    &["enfilade-sim", "enfilade-testkit"],
    &["enfilade"],
];

/// Programs of their own, which use the gateway only over the network.
const TOOLS: [&str; 4] = ["enfilade-bench", "enfilade-drills", "enfilade-loadtest", "interop-rmcp-client"];

/// What tools have in common. The gateway has no use for it.
const SHARED: &[&str] = &["enfilade-process"];

/// Libraries that only the named crates may use: everybody else sees what these make of them.
const KEPT: [(&str, &[&str]); 3] = [
    ("foca", &["enfilade-membership"]),
    ("openraft", &["enfilade-raft"]),
    // The load test's workers are no nodes; they speak gRPC among themselves.
    ("tonic", &["enfilade-loadtest", "enfilade-mesh", "enfilade-proto"]),
];

/// What a crate must not use, however low it lies.
const FORBIDDEN: [(&str, &[&str]); 6] = [
    ("enfilade-mcp", &["tokio", "hyper", "rmcp"]),
    ("enfilade-registry", &["tokio", "hyper", "getrandom"]),
    // Who stands behind the registry's traits is not theirs to know.
    ("enfilade-session", &["enfilade-journal", "enfilade-raft", "hyper", "rmcp"]),
    ("enfilade-edge", &["enfilade-journal", "enfilade-raft", "enfilade-upstream", "rmcp"]),
    ("enfilade-upstream", &["enfilade-registry", "enfilade-session", "rmcp"]),
    ("enfilade-testkit", &["enfilade-mcp", "enfilade-session", "enfilade-edge", "enfilade-upstream"]),
];

/// The workspace's crates with what they use outside of their tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let arguments = ["metadata", "--no-deps", "--format-version", "1", "--offline", "--manifest-path", manifest];
    let output = Command::new(env!("CARGO")).args(arguments).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let used = |package: &Value| {
        let all = package["dependencies"].as_array().expect("dependencies");
        all.iter().filter(|one| one["kind"] != "dev").map(|one| text(&one["name"])).collect()
    };
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(|package| (text(&package["name"]), used(package))).collect()
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

#[test]
fn every_crate_has_a_layer_and_uses_lower_ones_only() {
    let all = dependencies();
    for (name, used) in &all {
        let ours = used.iter().filter(|other| all.contains_key(*other));
        match layer(name) {
            Some(own) => {
                for other in ours {
                    assert!(layer(other).is_some_and(|lower| lower < own), "{name} must not use {other}");
                }
            }
            None => {
                let (is_tool, is_shared) = (TOOLS.contains(&name.as_str()), SHARED.contains(&name.as_str()));
                assert!(is_tool || is_shared, "{name} has no layer: give it one in {}", file!());
                for other in ours {
                    assert!(is_tool && SHARED.contains(&other.as_str()), "{name} must not use {other}");
                }
            }
        }
    }
    for name in LAYERS.iter().copied().flatten().chain(&TOOLS).chain(SHARED) {
        assert!(all.contains_key(*name), "{name} is no crate of this workspace");
    }
}

#[test]
fn what_is_forbidden_is_not_used() {
    let all = dependencies();
    for (name, forbidden) in FORBIDDEN {
        let used = &all[name];
        assert!(!used.is_empty(), "{name}");
        for other in forbidden {
            assert!(!used.contains(*other), "{name} must not use {other}");
        }
    }
}

#[test]
fn libraries_that_are_kept_by_a_crate_are_used_by_no_other() {
    for (name, used) in &dependencies() {
        for (library, keepers) in KEPT {
            assert!(!used.contains(library) || keepers.contains(&name.as_str()), "{name} must not use {library}");
        }
    }
}
