//! A line of 1 GiB costs no memory. A test of its own, because it measures its whole process.

mod support;

use enfilade_upstream::CallError;
use support::*;

#[tokio::test]
async fn a_line_of_one_gibibyte_is_refused_and_the_next_message_served() {
    let connector = connector(scripted(&[]));
    let peer = connector.open(&hello()).await.unwrap().peer;
    result_of(&*peer, "echo", "1").await;
    let before = peak_kib();
    let id = peer.next_id();
    let message = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"sized","arguments":{{"bytes":1073741824}}}}}}"#
    );
    let call = enfilade_upstream::Call {
        id,
        message: message.into(),
        method: "tools/call",
        name: None,
        headers: Vec::new(),
        progress_token: None,
    };
    assert_eq!(peer.call(call).await.unwrap_err(), CallError::TooLarge);
    assert_eq!(result_of(&*peer, "echo", "1").await, "1");
    let added = peak_kib() - before;
    assert!(added < 32 * 1024, "{added} KiB");
}

/// The most memory that this process has had.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
