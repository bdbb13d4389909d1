use super::*;

const BASE: &str =
    "name = \"x\"\nconnections = 10\nopens_per_second = 10.0\nhold = \"500s\"\n[clients]\nlegacy_sse = 1.0\n";

fn refused(text: &str) -> String {
    format!("{:#}", Scenario::parse(text).expect_err("it must be refused"))
}

#[test]
fn the_scenarios_that_come_with_it_are_good() {
    for text in [
        include_str!("../scenarios/local.toml"),
        include_str!("../scenarios/fanout.toml"),
        include_str!("../scenarios/cluster.toml"),
    ] {
        let scenario = Scenario::parse(text).expect("a good scenario");
        let json = serde_json::to_string(&scenario).expect("json");
        assert_eq!(serde_json::from_str::<Scenario>(&json).expect("as workers get it"), scenario);
    }
}

#[test]
fn unknown_keys_are_refused_and_named() {
    let text = refused(&format!("{BASE}modern = 0.0\n"));
    assert!(text.contains("modern") && text.contains("unknown field") && text.contains("line 7"), "{text}");
    let text = refused(&format!("{BASE}[calls]\nper_seconds = 5\n"));
    assert!(text.contains("per_seconds"), "{text}");
}

#[test]
fn impossible_values_are_refused_with_their_key() {
    for (from, to, wanted) in [
        ("connections = 10", "connections = 0", "connections: 0"),
        ("legacy_sse = 1.0", "legacy_sse = 0.5", "add up to 0.5"),
        ("legacy_sse = 1.0", "legacy_sse = 1.5", "clients.legacy_sse: 1.5"),
        ("legacy_sse = 1.0", "legacy_sse = nan", "clients.legacy_sse: NaN"),
        ("hold = \"500s\"", "hold = \"10ms\"", "hold"),
        ("hold = \"500s\"", "hold = \"500\"", "no unit"),
        ("hold = \"500s\"", "hold = \"soon\"", "soon"),
        ("opens_per_second = 10.0", "opens_per_second = 0.0", "opens_per_second: 0"),
    ] {
        let text = refused(&BASE.replace(from, to));
        assert!(text.contains(wanted), "{to}: {text}");
    }
    for (more, wanted) in [
        ("[calls]\nper_second = -1.0\n", "calls.per_second: -1"),
        ("[calls]\nper_second = inf\n", "calls.per_second: inf"),
        ("[calls]\nin_flight_max = 0\n", "in_flight_max"),
        ("[subscribe]\nshare = 0.5\n", "subscribe.uri"),
        ("[notify]\nper_second = 1.0\n", "subscribe.share"),
        ("[[faults]]\nat = 2.0\nkind = \"add_node\"\n", "faults.at: 2"),
        ("[[faults]]\nat = 0.5\nkind = \"command\"\n", "needs it"),
        ("[[faults]]\nat = 0.5\nkind = \"explode\"\n", "explode"),
        ("[limits]\np99_ms = 0.0\n", "limits.p99_ms"),
    ] {
        let text = refused(&format!("{BASE}{more}"));
        assert!(text.contains(wanted), "{more}: {text}");
    }
}

#[test]
fn times_have_units() {
    assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
    assert!(
        parse_duration("").is_err() && parse_duration("5").is_err() && parse_duration("18446744073709551615h").is_err()
    );
}
