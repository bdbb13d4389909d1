//! The configuration's JSON schema, and the page docs/CONFIG.md that is written from it.

use super::Config;
use serde_json::{Map, Value};
use std::fmt::Write;

/// The JSON schema of the configuration file.
pub(crate) fn schema() -> Value {
    schemars::schema_for!(Config).to_value()
}

const INTRODUCTION: &str = "\
# Configuration

This page is written by `make docs` from the same types that read the file.

`enfilade up --config FILE.yaml` and `enfilade serve --config FILE.yaml` read one YAML file. Unknown keys, and values that cannot be used, are refused with
exit code 64 and a line `FILE:LINE:COLUMN: message` for each, before any socket is opened. `enfilade check --config FILE`
only checks; `enfilade dump-config --config FILE` prints the result with values of `env` and `headers` and queries of
URLs left out; `enfilade schema` prints the JSON schema. On the command line `--listen`, `--allow-remote` and
`--data-dir` go before the file, and with `serve` `--node`, `--link`, `--gossip`, `--seed` and `--keys` as well.

`enfilade serve` starts one node: of a cluster with the section `cluster`, alone without it. `enfilade up` starts a
whole cluster on this machine (`--nodes N`) and writes that section for its nodes itself.

`--mcp-json FILE` adds upstreams from a file as hosts keep it: `{\"mcpServers\": {NAME: …}}` or `{\"servers\": {NAME: …}}`,
each with `command`, `args`, `env`, `cwd`, or with `url` and `headers` (`type` `stdio`, `http` or `streamable-http`).
`${NAME}`, `${env:NAME}` and `${NAME:-default}` in it are taken from the environment; a missing variable is an error.
Servers with `disabled: true` are skipped. Names become lower case, with `-` for all but letters and digits.
";

/// The reference page.
pub(crate) fn markdown() -> String {
    let schema = schema();
    let mut page = INTRODUCTION.to_owned();
    section(&mut page, "The file", &schema);
    let none = Map::new();
    for (name, definition) in schema["$defs"].as_object().unwrap_or(&none) {
        section(&mut page, title(name), definition);
    }
    page
}

/// The definitions' names are types' names; readers know the keys.
fn title(name: &str) -> &str {
    match name {
        "Cluster" => "`cluster`",
        "Role" => "`roles`",
        "Timing" => "`timing`",
        "Config" => "An entry of `upstreams`",
        "ServerConfig" => "An entry of `servers`",
        "Listen" => "An entry of `listen`",
        "Limits" => "`limits`",
        "Protocol" => "`protocol`",
        "PrefixChoice" => "`prefix`",
        "EraChoice" => "`era`",
        "Sharing" => "`sessions`",
        other => other,
    }
}

fn section(page: &mut String, title: &str, definition: &Value) {
    let text = description(definition);
    // Writing to a string cannot fail.
    let _ = write!(page, "\n## {title}\n\n{text}\n");
    if let Some(properties) = definition["properties"].as_object() {
        page.push_str("\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
        for (key, property) in properties {
            let required = definition["required"].as_array().is_some_and(|all| all.iter().any(|one| one == key));
            let (kind, default) = (kind(property), default(property, required));
            let _ = writeln!(page, "| `{key}` | {kind} | {default} | {} |", description(property));
        }
    }
    if let Some(choices) = definition["oneOf"].as_array() {
        page.push_str("\n| value | meaning |\n| --- | --- |\n");
        for choice in choices {
            let _ = writeln!(page, "| `{}` | {} |", choice["const"].as_str().unwrap_or("?"), description(choice));
        }
    }
}

/// On one line, without links that only the code's documentation can follow.
fn description(value: &Value) -> String {
    let text = value["description"].as_str().unwrap_or("");
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn kind(property: &Value) -> String {
    if let Some(reference) = property["$ref"].as_str() {
        return see(reference);
    }
    let kinds: Vec<&str> = match &property["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    match kinds[..] {
        ["array"] => format!("list: {}", kind(&property["items"])),
        ["object"] => format!("map: {}", kind(&property["additionalProperties"])),
        ["integer"] => "number".to_owned(),
        [one] => one.to_owned(),
        // A reference with a default or a description of its own.
        _ => property["allOf"][0]["$ref"]
            .as_str()
            .or(property["anyOf"][0]["$ref"].as_str())
            .map_or_else(String::new, see),
    }
}

fn see(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    let title = title(name);
    let anchor: String = title
        .to_lowercase()
        .chars()
        .filter_map(|char| match char {
            ' ' => Some('-'),
            other => other.is_alphanumeric().then_some(other),
        })
        .collect();
    format!("[{}](#{anchor})", title.trim_start_matches("An "))
}

fn default(property: &Value, required: bool) -> String {
    match property.get("default") {
        _ if required => "required".to_owned(),
        None | Some(Value::Null) => String::new(),
        // The limits stand in a table of their own.
        Some(Value::Object(_)) => String::new(),
        Some(default) => format!("`{default}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a schema says of each key. The edge's texts name their defaults, which the page shows in a column.
    fn keys(schema: &Value) -> Map<String, Value> {
        let mut keys = schema["properties"].as_object().expect("properties").clone();
        for (key, value) in &mut keys {
            let text = value["description"].as_str().unwrap_or_else(|| panic!("{key} is not described"));
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            value["description"] = text.split(" Default: ").next().into();
        }
        keys
    }

    /// The edge's settings stand at the top level here: none may be forgotten, and neither types, defaults nor texts may
    /// drift.
    #[test]
    fn all_settings_of_the_edge_are_there() {
        let (ours, edge) = (keys(&schema()), keys(&schemars::schema_for!(enfilade_edge::Config).to_value()));
        assert!(!edge.is_empty());
        for (key, expected) in &edge {
            assert_eq!(ours.get(key), Some(expected), "{key}");
        }
    }

    #[test]
    fn every_key_says_what_it_means() {
        let page = markdown();
        for line in page.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            assert!(
                cells.iter().all(|cell| *cell != "?") && cells.last().is_some_and(|text| !text.is_empty()),
                "{line}"
            );
        }
        assert!(page.lines().filter(|line| line.starts_with("| `")).count() > 30);
    }

    #[test]
    fn the_page_is_up_to_date() {
        let written = include_str!("../../../../docs/CONFIG.md");
        assert!(written == markdown(), "docs/CONFIG.md is not what the code says; run: make docs");
    }
}
