//! Messages of exactly 16 MiB pass with a few spans replaced; every other byte stays as it is (P4).

use enfilade_mcp::envelope::{Outcome, Request, Response};
use enfilade_mcp::translate::{
    ClientMeta, edit_progress_token, edit_request_to_modern, edit_uris, result_to_legacy, result_to_modern,
};
use enfilade_mcp::{Envelope, Kind, MESSAGE_BYTES_MAX, Splice, json};

/// What a modern request says of the client.
const META: &str = concat!(
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientInfo":{"name":"c","version":"1.0"},"#,
    r#""io.modelcontextprotocol/clientCapabilities":{"roots":{}}"#
);
const CLIENT: ClientMeta<'static> =
    ClientMeta { info: Some(r#"{"name":"c","version":"1.0"}"#), capabilities: r#"{"roots":{}}"#, log_level: None };
/// Who answers.
const SERVER: &str = r#""io.modelcontextprotocol/serverInfo":{"name":"enfilade","version":"1"}"#;
const SERVER_INFO: &str = r#"{"name":"enfilade","version":"1"}"#;

fn request(text: &str) -> Request<'_> {
    match Envelope::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text:.200}: {e:?}")).kind {
        Kind::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

fn result(text: &str) -> (&str, &str) {
    match Envelope::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text:.200}: {e:?}")).kind {
        Kind::Response(Response { id_text: Some(id), outcome: Outcome::Result(result), .. }) => (id, result),
        other => panic!("{other:?}"),
    }
}

/// Text of `bytes` bytes that is inside a JSON object: long strings, escapes, numbers as nobody would write them again.
fn filler(bytes: usize) -> String {
    const PIECE: &str = r#""k":[1.0,-0,1E+2,"\u0041\/\"}",{"_meta":{"progressToken":1},"id":7}], "é" :"世界😀","#;
    let mut text = String::with_capacity(bytes);
    for _ in 0..4000 {
        text.push_str(
            &PIECE.replace("\"k\"", &format!("\"k{}\"", text.len())).replace("\"é\"", &format!("\"é{}\"", text.len())),
        );
    }
    text.push_str("\"last\":\"");
    let rest = bytes.checked_sub(text.len() + 1).expect("the filler is larger than its pieces");
    let line = "A base64+/= ".repeat(8) + r"\\";
    text.push_str(&line.repeat(rest / line.len()));
    text.push_str(&"A".repeat(rest % line.len()));
    text.push('"');
    assert_eq!(text.len(), bytes);
    text
}

/// `assert_eq!` without 32 MiB of output.
fn same(found: &str, expected: &str) {
    let at = || found.bytes().zip(expected.bytes()).position(|(a, b)| a != b);
    assert!(found == expected, "{} and {} bytes, different from byte {:?}", found.len(), expected.len(), at());
}

#[test]
fn a_request_at_the_limit_keeps_its_bytes() {
    let head = |id: &str, name: &str, meta: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":{name},"_meta":{{{meta}}},"arguments":{{"#
        )
    };
    let theirs = head(r#""client-1""#, r#""second__upload""#, r#""progressToken":"t","z":1.0"#);
    let filler = filler(MESSAGE_BYTES_MAX - theirs.len() - "}}}".len());
    let text = format!("{theirs}{filler}}}}}}}");
    assert_eq!(text.len(), MESSAGE_BYTES_MAX);
    let before = request(&text);
    let name = json::get(before.params.unwrap(), "name").unwrap();
    let edited = |edit: &dyn Fn(&mut Splice<'_>)| {
        let mut splice = Splice::new(&text);
        splice.replace(before.id_text, "18446744073709551615").replace(name, "\"upload\"");
        edit(&mut splice);
        splice.finish()
    };
    let expected = |meta: &str| head("18446744073709551615", "\"upload\"", meta) + &filler + "}}}";
    same(
        &edited(&|splice| edit_progress_token(splice, &text, before.params, Some("9"))),
        &expected(r#""progressToken":9,"z":1.0"#),
    );
    same(
        &edited(&|splice| edit_request_to_modern(splice, &text, before.params, &CLIENT, Some("9"))),
        &expected(&format!(r#"{META},"progressToken":9,"z":1.0"#)),
    );
}

#[test]
fn a_result_at_the_limit_keeps_its_bytes() {
    let head = r#"{"jsonrpc":"2.0","id":9,"result":{"#;
    let tail = r#","content":[{"type":"resource_link","uri":"a:1","name":"audio"}],"_meta":{"k":1}}}"#;
    let filler = filler(MESSAGE_BYTES_MAX - head.len() - tail.len());
    let text = format!("{head}{filler}{tail}");
    let (id, before) = result(&text);
    let mut splice = Splice::new(&text);
    splice.replace(id, "\"client-1\"");
    edit_uris(&mut splice, "tools/call", before, &|uri| Some(format!("main+{uri}")));
    result_to_modern(&mut splice, "tools/call", before, SERVER_INFO);
    let there = splice.finish();
    let expected = [
        r#"{"jsonrpc":"2.0","id":"client-1","result":{"resultType":"complete","#,
        &filler,
        r#","content":[{"type":"resource_link","uri":"main+a:1","name":"audio"}],"_meta":{"#,
        SERVER,
        r#","k":1}}}"#,
    ];
    same(&there, &expected.concat());

    let (id, between) = result(&there);
    let mut splice = Splice::new(&there);
    splice.replace(id, "9");
    edit_uris(&mut splice, "tools/call", between, &|uri| uri.strip_prefix("main+").map(str::to_owned));
    result_to_legacy(&mut splice, between);
    same(&splice.finish(), &text);
}
