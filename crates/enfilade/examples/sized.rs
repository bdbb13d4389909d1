//! An MCP server with one tool, `sized`, whose answer is a message of exactly that many bytes, however many: for tests
//! of limits. Without arguments over HTTP (prints `ready URL`), with `--stdio` on its standard streams.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::{TcpListener, TcpStream};

const MODERN: &str = "io.modelcontextprotocol/protocolVersion";

/// Written at a time.
const PIECE_BYTES: usize = 1 << 20;

fn main() -> io::Result<()> {
    if std::env::args().any(|argument| argument == "--stdio") {
        return stdio();
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("ready http://{}/mcp", listener.local_addr()?);
    for stream in listener.incoming() {
        // A connection that breaks is the gateway refusing what it gets: the next one is served.
        std::thread::spawn(move || stream.and_then(http));
    }
    Ok(())
}

/// What a message is answered with.
enum Answer {
    Nothing,
    Whole(String),
    /// Head and tail of a message, how many bytes lie between them, and how it is framed.
    Sized(String, &'static str, u64, String),
}

fn answer(message: &Value) -> Answer {
    let (id, params) = (&message["id"], &message["params"]);
    let result = |result: Value| Answer::Whole(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
    let modern = params["_meta"].get(MODERN).is_some();
    let complete = if modern { r#""resultType":"complete","# } else { "" };
    let schema = json!({"type": "object"});
    let tools = json!([{"name": "sized", "inputSchema": schema}]);
    match message["method"].as_str() {
        Some("initialize") => result(json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "sized", "version": "1"},
        })),
        Some("server/discover") => result(json!({
            "resultType": "complete",
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "sized", "version": "1"},
            "ttlMs": 60_000,
            "cacheScope": "public",
        })),
        Some("tools/list") if modern => {
            result(json!({"resultType": "complete", "tools": tools, "ttlMs": 60_000, "cacheScope": "public"}))
        }
        Some("tools/list") => result(json!({"tools": tools})),
        Some("tools/call") => {
            let arguments = &params["arguments"];
            let content = r#""content":[{"type":"text","text":""#;
            let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{{complete}{content}"#);
            let tail = r#""}]}}"#;
            let all = arguments["bytes"].as_u64().unwrap_or(0);
            let between = all.saturating_sub((head.len() + tail.len()) as u64);
            Answer::Sized(head, tail, between, arguments["how"].as_str().unwrap_or("length").to_owned())
        }
        Some("ping") => result(json!({})),
        Some(_) if !id.is_null() => {
            let error = json!({"code": -32601, "message": "unknown"});
            Answer::Whole(json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string())
        }
        _ => Answer::Nothing,
    }
}

fn stdio() -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        match answer(&serde_json::from_str(&line?)?) {
            Answer::Nothing => continue,
            Answer::Whole(text) => out.write_all(text.as_bytes())?,
            Answer::Sized(head, tail, between, _) => pieces(&head, tail, between, &mut |piece| out.write_all(piece))?,
        }
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

/// Writes a message piece by piece.
fn pieces(head: &str, tail: &str, between: u64, write: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let piece = vec![b'a'; PIECE_BYTES];
    write(head.as_bytes())?;
    let mut left = between;
    while left > 0 {
        let part = left.min(PIECE_BYTES as u64);
        write(&piece[..part as usize])?;
        left -= part;
    }
    write(tail.as_bytes())
}

fn http(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut input, mut out) = (BufReader::new(stream.try_clone()?), BufWriter::new(stream));
    while let Some((post, body)) = request(&mut input)? {
        let answer = if post { answer(&serde_json::from_slice(&body)?) } else { Answer::Nothing };
        match answer {
            Answer::Nothing if post => out.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")?,
            Answer::Nothing => out.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")?,
            Answer::Whole(text) => write!(out, "{OK}Content-Length: {}\r\n\r\n{text}", text.len())?,
            Answer::Sized(head, tail, between, how) => sized(&mut out, &head, tail, between, &how)?,
        }
        out.flush()?;
    }
    Ok(())
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

fn sized(out: &mut impl Write, head: &str, tail: &str, between: u64, how: &str) -> io::Result<()> {
    match how {
        "chunked" => write!(out, "{OK}Transfer-Encoding: chunked\r\n\r\n")?,
        "events" => write!(out, "{EVENTS}6\r\ndata: \r\n")?,
        _ => {
            let bytes = (head.len() + tail.len()) as u64 + between;
            write!(out, "{OK}Content-Length: {bytes}\r\n\r\n")?;
            return pieces(head, tail, between, &mut |piece| out.write_all(piece));
        }
    }
    pieces(head, tail, between, &mut |piece| {
        write!(out, "{:x}\r\n", piece.len())?;
        out.write_all(piece)?;
        out.write_all(b"\r\n")
    })?;
    out.write_all(if how == "events" { b"2\r\n\n\n\r\n0\r\n\r\n" } else { b"0\r\n\r\n" })
}

/// One request: whether it is a POST, and its body. Nothing at the end of the connection.
fn request(input: &mut impl BufRead) -> io::Result<Option<(bool, Vec<u8>)>> {
    let (mut first, mut length) = (String::new(), 0);
    if input.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    loop {
        let mut line = String::new();
        input.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    Ok(Some((first.starts_with("POST "), body)))
}
