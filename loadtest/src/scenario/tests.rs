use super::*;

const BASE: &str =
    "name = \"x\"\nconnections = 10\nopens_per_second = 10.0\nhold = \"500s\"\n[clients]\nlegacy_sse = 1.0\n";

fn refused(text: &str) -> String {
    format!("{:#}", Scenario::parse(text).expect_err("it must be refused"))
}

#[test]
fn the_scenarios_that_come_with_it_are_good() {
    for text in [
        include_str!("../../scenarios/local.toml"),
        include_str!("../../scenarios/fanout.toml"),
        include_str!("../../scenarios/overload.toml"),
        include_str!("../../scenarios/overload-slow.toml"),
        include_str!("../../scenarios/soak.toml"),
        include_str!("../../scenarios/cluster.toml"),
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
        ("[limits]\nmemory_mib_per_minute = -1.0\n", "limits.memory_mib_per_minute"),
        ("[churn]\nper_second = -1.0\n", "churn.per_second"),
        ("[overload]\n", "calls.per_second"),
        ("[calls]\nper_second = 5.0\n[overload]\ngrow = 1.0\n", "overload: grow"),
        ("[calls]\nper_second = 5.0\n[overload]\nmultiples = [0.5]\n", "overload: multiples"),
        ("[calls]\nper_second = 5.0\n[overload]\nstep = \"1s\"\n", "overload: step"),
        ("[calls]\nper_second = 5.0\n[overload]\n[[faults]]\nat = 0.5\nkind = \"add_node\"\n", "overload: faults"),
        ("[local]\ncpu_max = 0.0\n", "local.cpu_max"),
        ("[local]\nmemory_max = \"1MiB\"\n", "local.memory_max"),
        ("[local]\nmemory_max = \"512MB\"\n", "no unit: KiB"),
    ] {
        let text = refused(&format!("{BASE}{more}"));
        assert!(text.contains(wanted), "{more}: {text}");
    }
}

#[test]
fn what_nodes_are_held_to_is_read() {
    let text = format!("{BASE}[local]\nnodes = 3\ncpu_max = 0.25\nmemory_max = \"512MiB\"\n");
    let local = Scenario::parse(&text).expect("a scenario").local;
    assert_eq!((local.nodes, local.cpu_max, local.memory_max), (Some(3), Some(0.25), Some(512 << 20)));
    assert_eq!(Scenario::parse(BASE).expect("a scenario").local, Local::default());
}

#[test]
fn times_have_units() {
    assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
    assert!(
        parse_duration("").is_err() && parse_duration("5").is_err() && parse_duration("18446744073709551615h").is_err()
    );
}

#[test]
fn a_hold_that_its_warm_up_fills_is_refused_where_trends_are_asked_for() {
    for limit in ["memory_mib_per_minute = 1.0", "drift_max = 0.02"] {
        let text = format!("{BASE}[limits]\nwarm_up = \"471s\"\n{limit}\n");
        let said = refused(&text);
        assert!(said.contains("471s") && said.contains("hold for longer"), "{said}");
        Scenario::parse(&text.replace("471s", "470s")).expect("30 s are left");
    }
    Scenario::parse(&format!("{BASE}[limits]\nwarm_up = \"471s\"\n")).expect("nothing is asked of the rest");
}
