//! How many of the clients' list calls reach the upstreams.

mod common;

use common::*;
use enfilade_session::config::PrefixChoice;
use enfilade_testkit::everything::Era;

const LISTS: [&str; 4] = ["tools/list", "prompts/list", "resources/list", "resources/templates/list"];

#[tokio::test]
async fn most_list_calls_are_answered_from_the_cache() {
    let peer = Peer::start("one", Era::Legacy).await;
    let world = World::new(vec![peer.config()], PrefixChoice::Always);
    let mut asked = 0;
    for at in 0..50 {
        // Two kinds of clients, so that lists are kept for each kind.
        let client = world.open("2025-11-25", if at % 2 == 0 { "{}" } else { r#"{"roots":{}}"# }).await;
        for list in LISTS {
            assert!(client.ask("1", list, "{}").await.contains("result"));
            asked += 1;
        }
        assert_eq!(content(&client.call("echo", r#"{"text":"x"}"#).await), "x");
    }
    let client = world.open("2025-11-25", "{}").await;
    let counts = value(&content(&client.call("counts", "{}").await));
    let reached: u64 = LISTS.iter().filter_map(|list| counts["calls"][*list].as_u64()).sum();
    println!("list calls: {asked} of clients, {reached} of the gateway");
    assert!(reached * 100 <= asked * 10, "{reached} of {asked}");

    // A list that changed is asked for again.
    client.call("add_tool", r#"{"name":"fresh"}"#).await;
    until(|| client.ask("1", "tools/list", "{}"), |answer| answer.contains("\"fresh\"")).await;
}
