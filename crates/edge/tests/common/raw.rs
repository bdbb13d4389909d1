//! An HTTP/1.1 client that writes bytes by hand, for what no library would send.

use super::within;
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

/// One connection.
pub struct Raw {
    pub io: BufReader<TcpStream>,
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { io: BufReader::new(super::connect(address).await) }
    }

    /// From this address, which must be one of this machine.
    pub async fn connect_from(from: [u8; 4], to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("an address of this machine");
        let stream = within(socket.connect(to)).await.expect("connected");
        stream.set_nodelay(true).expect("set");
        Self { io: BufReader::new(stream) }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.io.write_all(bytes.as_ref())).await.expect("sent");
    }

    /// A POST to /mcp with what every POST needs, and `headers`, each ended by CRLF.
    pub async fn post(&mut self, headers: &str, body: &[u8]) {
        let head = post_head(&format!("content-length: {}\r\n{headers}", body.len()));
        self.send(head).await;
        self.send(body).await;
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        within(self.io.read_line(&mut line)).await.expect("a line");
        line.truncate(line.trim_end().len());
        line
    }

    pub async fn head(&mut self) -> Head {
        let first = self.line().await;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {first:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Head { status, headers }
    }

    /// An answer whose length is declared.
    pub async fn answer(&mut self) -> (Head, String) {
        let head = self.head().await;
        let length = head.get("content-length").map_or(0, |value| value.parse().expect("a length"));
        let mut body = vec![0; length];
        within(self.io.read_exact(&mut body)).await.expect("a body");
        (head, String::from_utf8(body).expect("text"))
    }

    /// One chunk of an answer; empty at its end.
    pub async fn chunk(&mut self) -> String {
        let length = usize::from_str_radix(&self.line().await, 16).expect("a chunk's length");
        let mut chunk = vec![0; length + 2];
        within(self.io.read_exact(&mut chunk)).await.expect("a chunk");
        chunk.truncate(length);
        String::from_utf8(chunk).expect("text")
    }

    /// True when the node closed the connection and said nothing more; a reset counts as well.
    pub async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match within(self.io.read_to_end(&mut rest)).await {
            Ok(_) => rest.is_empty(),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// The head of a POST with further `headers`, each ended by CRLF.
pub fn post_head(headers: &str) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\naccept: application/json, text/event-stream\r\n\
         content-type: application/json\r\n{headers}\r\n"
    )
}
