//! Literal payloads over the bridge and back (P4): requests, results of every kind, and every content type in every
//! revision.

use enfilade_mcp::envelope::{Outcome, Request, Response};
use enfilade_mcp::translate::{
    ClientMeta, contents_to_version, edit_request_to_legacy, edit_request_to_modern, edit_uris, result_to_legacy,
    result_to_modern, schema_to_legacy,
};
use enfilade_mcp::{Envelope, Id, Kind, Splice, Version, json};

/// What a modern request says of the client; in the tables `%meta%`.
const META: &str = concat!(
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientInfo":{"name":"c","version":"1.0"},"#,
    r#""io.modelcontextprotocol/clientCapabilities":{"roots":{}}"#
);
const CLIENT: ClientMeta<'static> =
    ClientMeta { info: Some(r#"{"name":"c","version":"1.0"}"#), capabilities: r#"{"roots":{}}"#, log_level: None };
/// Who answers; in the tables `%server%`.
const SERVER: &str = r#""io.modelcontextprotocol/serverInfo":{"name":"enfilade","version":"1"}"#;
const SERVER_INFO: &str = r#"{"name":"enfilade","version":"1"}"#;

fn filled(text: &str) -> String {
    text.replace("%meta%", META).replace("%server%", SERVER)
}

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

/// Legacy requests and what a modern upstream gets, with the gateway's id; the way back gives the first text again.
const REQUESTS: [(&str, &str); 12] = [
    (
        r#"{"jsonrpc":"2.0","id":"a","method":"tools/list"}"#,
        r#"{"params":{"_meta":{%meta%}},"jsonrpc":"2.0","id":7,"method":"tools/list"}"#,
    ),
    (
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":""}}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"_meta":{%meta%},"cursor":""}}"#,
    ),
    (
        r#"{"jsonrpc":"2.0","id":"1","method":"tools/call","params":{"name":"t","arguments":{"x":1.0,"y":1e400,"z":-0}}}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"_meta":{%meta%},"name":"t","arguments":{"x":1.0,"y":1e400,"z":-0}}}"#,
    ),
    (
        r#"{"jsonrpc":"2.0","id":-5,"method":"tools/call","params":{"name":"t","_meta":{"progressToken":"p","x.y/z":[ 1 ]}}}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","_meta":{%meta%,"progressToken":7,"x.y/z":[ 1 ]}}}"#,
    ),
    (
        r#"{"jsonrpc":"2.0","id":0,"method":"tools/call","params":{"_meta":{"progressToken":0},"name":"t","task":{"ttl":1}}}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"_meta":{%meta%,"progressToken":7},"name":"t","task":{"ttl":1}}}"#,
    ),
    (
        r#"{"method":"prompts/get","params":{"name":"p","arguments":{"a":"\u00e9\ud83d\ude00\/"}},"id":2,"jsonrpc":"2.0"}"#,
        r#"{"method":"prompts/get","params":{"_meta":{%meta%},"name":"p","arguments":{"a":"\u00e9\ud83d\ude00\/"}},"id":7,"jsonrpc":"2.0"}"#,
    ),
    (
        r#"{"jsonrpc":"2.0","id":3,"method":"resources/read","params":{"uri":"file:///a%20b?c=\"d\""}}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"resources/read","params":{"_meta":{%meta%},"uri":"file:///a%20b?c=\"d\""}}"#,
    ),
    (
        r#"{"jsonrpc":"2.0","id":3,"method":"resources/templates/list","params":{"cursor":"eyJ4Ijox"}}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"resources/templates/list","params":{"_meta":{%meta%},"cursor":"eyJ4Ijox"}}"#,
    ),
    (
        r#"{"jsonrpc":"2.0","id":4,"method":"completion/complete","params":{"ref":{"type":"ref/resource","uri":"a:{x}"},"argument":{"name":"x","value":""},"context":{"arguments":{"y":"1"}}}}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"completion/complete","params":{"_meta":{%meta%},"ref":{"type":"ref/resource","uri":"a:{x}"},"argument":{"name":"x","value":""},"context":{"arguments":{"y":"1"}}}}"#,
    ),
    (
        r#"{"jsonrpc":"2.0","id":4,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"x","value":"v"}}}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"completion/complete","params":{"_meta":{%meta%},"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"x","value":"v"}}}"#,
    ),
    (
        r#"{"jsonrpc":"2.0" , "id" : "é\n" , "method":"x/unknown","params":{"deep":{"_meta":{"progressToken":1}}, "id":9 },"more":true}"#,
        r#"{"jsonrpc":"2.0" , "id" : 7 , "method":"x/unknown","params":{"_meta":{%meta%},"deep":{"_meta":{"progressToken":1}}, "id":9 },"more":true}"#,
    ),
    (
        r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"t","arguments":{"inputResponses":{},"requestState":"mine","resultType":1}}}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"_meta":{%meta%},"name":"t","arguments":{"inputResponses":{},"requestState":"mine","resultType":1}}}"#,
    ),
];

#[test]
fn requests_to_modern_and_back() {
    for (legacy, modern) in REQUESTS {
        let before = request(legacy);
        let theirs = before.params.and_then(|params| json::at(params, &["_meta", "progressToken"]));
        let mut splice = Splice::new(legacy);
        splice.replace(before.id_text, Id::number(7).as_json().to_owned());
        edit_request_to_modern(&mut splice, legacy, before.params, &CLIENT, theirs.map(|_| "7"));
        let there = splice.finish();
        assert_eq!(there, filled(modern));

        let between = request(&there);
        let mut splice = Splice::new(&there);
        splice.replace(between.id_text, before.id_text.to_owned());
        edit_request_to_legacy(&mut splice, &there, between.params, theirs);
        let back = splice.finish();
        // Params that were made for the metadata stay, empty: they mean the same.
        let expected = match before.params {
            Some(_) => legacy.to_owned(),
            None => legacy.replacen('{', r#"{"params":{},"#, 1),
        };
        assert_eq!(back, expected);
    }
}

/// Modern requests and what a legacy upstream gets.
#[test]
fn requests_to_legacy() {
    let table = [
        (
            r#"{"jsonrpc":"2.0","id":"m","method":"tools/call","params":{"_meta":{%meta%,"io.modelcontextprotocol/logLevel":"debug","progressToken":"p","traceparent":"00-1"},"name":"t","arguments":{}}}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"_meta":{"progressToken":8,"traceparent":"00-1"},"name":"t","arguments":{}}}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":"m","method":"tools/call","params":{"name":"t","inputResponses":{"k":{"action":"accept"}},"requestState":"s","_meta":{%meta%}}}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","_meta":{"progressToken":8}}}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":"m","method":"prompts/list","params":{"_meta":{"a":1,%meta%,"b":2}}}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"prompts/list","params":{"_meta":{"progressToken":8,"a":1,"b":2}}}"#,
        ),
    ];
    for (modern, legacy) in table {
        let modern = filled(modern);
        let before = request(&modern);
        let mut splice = Splice::new(&modern);
        splice.replace(before.id_text, "7".to_owned());
        edit_request_to_legacy(&mut splice, &modern, before.params, Some("8"));
        assert_eq!(splice.finish(), legacy);
    }
}

/// Results of legacy upstreams and what a modern client gets; the way back gives the first text again.
const RESULTS: [(&str, &str, &str); 16] = [
    ("ping", "{}", r#"{"resultType":"complete","_meta":{%server%}}"#),
    ("x/unknown", r#"{"a":{"resultType":1}}"#, r#"{"resultType":"complete","_meta":{%server%},"a":{"resultType":1}}"#),
    ("logging/setLevel", r#"{"_meta":{"k":1}}"#, r#"{"resultType":"complete","_meta":{%server%,"k":1}}"#),
    ("tools/call", r#"{"content":[]}"#, r#"{"resultType":"complete","_meta":{%server%},"content":[]}"#),
    (
        "tools/call",
        r#"{"content":[{"type":"text","text":"no"}],"isError":true,"_meta":{"a.b/c":{ "d":1.50 }}}"#,
        r#"{"resultType":"complete","content":[{"type":"text","text":"no"}],"isError":true,"_meta":{%server%,"a.b/c":{ "d":1.50 }}}"#,
    ),
    (
        "tools/call",
        r#"{"content":[{"type":"text","text":"{\"n\":1}"}],"structuredContent":{"n":1,"ttlMs":5,"cacheScope":"x"}}"#,
        r#"{"resultType":"complete","_meta":{%server%},"content":[{"type":"text","text":"{\"n\":1}"}],"structuredContent":{"n":1,"ttlMs":5,"cacheScope":"x"}}"#,
    ),
    (
        "tools/list",
        r#"{"tools":[{"name":"t","inputSchema":{"type":"object"},"x":1}],"nextCursor":""}"#,
        r#"{"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{%server%},"tools":[{"name":"t","inputSchema":{"type":"object"},"x":1}],"nextCursor":""}"#,
    ),
    (
        "prompts/list",
        r#"{"prompts":[]}"#,
        r#"{"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{%server%},"prompts":[]}"#,
    ),
    (
        "resources/list",
        r#"{"resources":[{"uri":"a:1","name":"é"}]}"#,
        r#"{"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{%server%},"resources":[{"uri":"a:1","name":"é"}]}"#,
    ),
    (
        "resources/templates/list",
        r#"{"resourceTemplates":[{"uriTemplate":"a:{x}","name":"n"}]}"#,
        r#"{"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{%server%},"resourceTemplates":[{"uriTemplate":"a:{x}","name":"n"}]}"#,
    ),
    (
        "resources/read",
        r#"{"contents":[{"uri":"a:1","mimeType":"text/plain","text":"x\r\n"},{"uri":"a:2","blob":"AA=="}]}"#,
        r#"{"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{%server%},"contents":[{"uri":"a:1","mimeType":"text/plain","text":"x\r\n"},{"uri":"a:2","blob":"AA=="}]}"#,
    ),
    (
        "prompts/get",
        r#"{"description":"d","messages":[{"role":"user","content":{"type":"text","text":"\u2028"}}]}"#,
        r#"{"resultType":"complete","_meta":{%server%},"description":"d","messages":[{"role":"user","content":{"type":"text","text":"\u2028"}}]}"#,
    ),
    (
        "completion/complete",
        r#"{"completion":{"values":["a","b"],"total":2,"hasMore":false}}"#,
        r#"{"resultType":"complete","_meta":{%server%},"completion":{"values":["a","b"],"total":2,"hasMore":false}}"#,
    ),
    (
        "tools/call",
        r#"{"task":{"taskId":"1","status":"working","ttl":null}}"#,
        r#"{"resultType":"complete","_meta":{%server%},"task":{"taskId":"1","status":"working","ttl":null}}"#,
    ),
    ("tools/call", r#"{"content":null}"#, r#"{"resultType":"complete","_meta":{%server%},"content":null}"#),
    ("tools/call", "null", "null"),
];

#[test]
fn results_to_modern_and_back() {
    for (method, legacy, modern) in RESULTS {
        let text = format!(r#"{{"jsonrpc":"2.0","id":7,"result":{legacy}}}"#);
        let (id, before) = result(&text);
        let mut splice = Splice::new(&text);
        splice.replace(id, "\"client's\"");
        result_to_modern(&mut splice, method, before, SERVER_INFO);
        let there = splice.finish();
        assert_eq!(there, format!(r#"{{"jsonrpc":"2.0","id":"client's","result":{}}}"#, filled(modern)), "{method}");

        let (id, between) = result(&there);
        let mut splice = Splice::new(&there);
        splice.replace(id, "7");
        result_to_legacy(&mut splice, between);
        assert_eq!(splice.finish(), text, "{method}");
    }
}

/// Results of modern upstreams, with what only they can say, and what a legacy client gets.
#[test]
fn results_to_legacy() {
    let table = [
        (r#"{"resultType":"complete","_meta":{%server%}}"#, "{}"),
        (r#"{"tools":[],"ttlMs":60000,"cacheScope":"public","resultType":"complete"}"#, r#"{"tools":[]}"#),
        (r#"{ "ttlMs":1, "contents":[] , "cacheScope":"private" }"#, r#"{ "contents":[] }"#),
        (
            r#"{"content":[],"resultType":"complete","_meta":{"a":1,%server%,"io.modelcontextprotocol/subscriptionId":1}}"#,
            r#"{"content":[],"_meta":{"a":1}}"#,
        ),
    ];
    for (modern, legacy) in table {
        let modern = filled(modern);
        let mut splice = Splice::new(&modern);
        result_to_legacy(&mut splice, &modern);
        assert_eq!(splice.finish(), legacy);
    }
}

/// A content block and what becomes of it in 2024-11-05, in 2025-03-26, and in 2025-06-18 and later; empty: it stays.
const BLOCKS: [(&str, &str, &str, &str); 12] = [
    (r#"{"type":"text","text":"\ud83d\ude00 \/"}"#, "", "", ""),
    (r#"{"type":"text","text":"","annotations":{"audience":["user"],"priority":0.0},"_meta":{"k":1}}"#, "", "", ""),
    (r#"{"type":"image","data":"iVBORw0KGgo=","mimeType":"image/png"}"#, "", "", ""),
    (
        r#"{"type":"audio","data":"UklGRgAA","mimeType":"audio/wav"}"#,
        r#"{"type":"text","text":"[audio, audio/wav, about 6 bytes: cannot be sent in protocol version 2024-11-05]"}"#,
        "",
        "",
    ),
    (
        r#"{"mimeType":"audio/mpeg","annotations":{"audience":["assistant"]},"data":"","type":"audio"}"#,
        r#"{"type":"text","text":"[audio, audio/mpeg, about 0 bytes: cannot be sent in protocol version 2024-11-05]","annotations":{"audience":["assistant"]}}"#,
        "",
        "",
    ),
    (
        r#"{"type":"resource_link","uri":"file:///a","name":"a"}"#,
        r#"{"type":"text","text":"a: file:///a"}"#,
        r#"{"type":"text","text":"a: file:///a"}"#,
        "",
    ),
    (
        r#"{"type":"resource_link","uri":"a:1","name":"n","title":"T \"t\"","mimeType":"text/html","description":"d","size":9,"annotations":{"priority":1}}"#,
        r#"{"type":"text","text":"T \"t\": a:1 (text/html)\nd","annotations":{"priority":1}}"#,
        r#"{"type":"text","text":"T \"t\": a:1 (text/html)\nd","annotations":{"priority":1}}"#,
        "",
    ),
    (r#"{"type":"resource","resource":{"uri":"a:1","mimeType":"text/plain","text":"resource_link"}}"#, "", "", ""),
    (r#"{"type":"resource","resource":{"uri":"a:2","blob":"AAEC","_meta":{}},"annotations":{}}"#, "", "", ""),
    (r#"{"type":"tool_use","id":"1","name":"t","input":{"type":"audio"}}"#, "", "", ""),
    (r#"{"type":"tool_result","toolUseId":"1","content":[{"type":"text","text":"audio"}]}"#, "", "", ""),
    (r#"{"type":"x.y/new","audio":true,"data":[1.10]}"#, "", "", ""),
];

/// Every content type, alone and beside another, in tool results and prompts, from each era for each revision.
#[test]
fn contents_of_all_types() {
    for (block, oldest, older, newer) in BLOCKS {
        let or_same = |simpler: &'static str| if simpler.is_empty() { block } else { simpler };
        let expected = [or_same(oldest), or_same(older), or_same(newer), or_same(newer), block];
        for (version, expected) in Version::ALL.into_iter().zip(expected) {
            for (method, head, tail) in [
                ("tools/call", r#"{"content":["#, r#"],"isError":false}"#),
                ("tools/call", r#"{ "content" : [ {"type":"text","text":"[{"} , "#, r#" ] }"#),
                ("tasks/result", r#"{"_meta":{"k":1},"content":["#, r#",{"type":"image","data":"","mimeType":""}]}"#),
                ("prompts/get", r#"{"messages":[{"role":"assistant","content":"#, r#"}]}"#),
            ] {
                let before = format!("{head}{block}{tail}");
                let after = contents_to_version(method, &before, version).unwrap_or_else(|| before.clone());
                assert_eq!(after, format!("{head}{expected}{tail}"), "{method}, {version}");
            }
        }
    }
}

/// The whole way of a modern upstream's answer to an old client: URIs, era, contents and id.
#[test]
fn one_answer_through_every_step() {
    let text = concat!(
        r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","content":["#,
        r#"{"type":"resource_link","uri":"a:1","name":"n"},{"type":"resource","resource":{"uri":"a:2","text":"a:1"}}"#,
        r#"],"structuredContent":{"uri":"a:1"},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"u"}}}}"#
    );
    let (id, before) = result(text);
    let mut splice = Splice::new(text);
    splice.replace(id, "\"c\"");
    edit_uris(&mut splice, "tools/call", before, &|uri| Some(format!("main+{uri}")));
    result_to_legacy(&mut splice, before);
    let there = splice.finish();
    assert_eq!(
        there,
        concat!(
            r#"{"jsonrpc":"2.0","id":"c","result":{"content":["#,
            r#"{"type":"resource_link","uri":"main+a:1","name":"n"},{"type":"resource","resource":{"uri":"main+a:2","text":"a:1"}}"#,
            r#"],"structuredContent":{"uri":"a:1"}}}"#
        )
    );
    assert_eq!(
        contents_to_version("tools/call", result(&there).1, Version::V2025_03_26).unwrap(),
        concat!(
            r#"{"content":[{"type":"text","text":"{\"uri\":\"a:1\"}"},{"type":"text","text":"n: main+a:1"},"#,
            r#"{"type":"resource","resource":{"uri":"main+a:2","text":"a:1"}}]}"#
        )
    );
}

#[test]
fn tool_schemas() {
    let tool = r#"{"name":"t","outputSchema":{"type":"array"},"inputSchema":{"type":"object"},"x":1.0}"#;
    let expected = r#"{"name":"t","inputSchema":{"type":"object"},"x":1.0}"#;
    assert_eq!(schema_to_legacy(tool).as_deref(), Some(expected));
    assert_eq!(schema_to_legacy(expected), None);
}
