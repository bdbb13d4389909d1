//! A client over WebSocket: a library's, as users have.

use super::{LEGACY, LIMIT, split};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocket;
use tokio_tungstenite::tungstenite::{Error, Message, client};

/// One connection.
pub(crate) struct Socket {
    ws: WebSocket<TcpStream>,
    /// The id of a legacy session.
    pub(crate) session: String,
    next: u64,
}

impl Socket {
    /// Connects, or gives the status that it is refused with.
    pub(crate) fn open(url: &str, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let stream = TcpStream::connect(split(url).0).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        let mut request = url.replace("http://", "ws://").into_client_request().expect("a request");
        let protocol = [("sec-websocket-protocol", "mcp")];
        for (name, value) in protocol.iter().chain(headers) {
            request.headers_mut().append(*name, value.parse().expect("a value"));
        }
        match client(request, stream) {
            Ok((ws, _)) => Ok(Self { ws, session: String::new(), next: 1 }),
            Err(error) => match error {
                tokio_tungstenite::tungstenite::HandshakeError::Failure(Error::Http(answer)) => {
                    Err(answer.status().as_u16())
                }
                other => panic!("{other}"),
            },
        }
    }

    /// Opens a session of its own.
    pub(crate) fn legacy(url: &str) -> Self {
        let mut socket = Self::open(url, &[]).expect("it opens");
        socket.send(&super::client::initialize(json!({})));
        let answer = socket.until(|message| message["id"] == 0);
        assert_eq!(answer["result"]["protocolVersion"], LEGACY, "{answer}");
        socket.session = answer["result"]["_meta"]["io.enfilade/session"].as_str().expect("its id").to_owned();
        socket.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        socket
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.ws.send(Message::text(text)).expect("sent");
    }

    /// Sends what stands before a text of so many bytes (RFC 6455, section 5.2), and nothing of the text.
    pub(crate) fn begin(&mut self, bytes: u64) {
        let head = [&[0x81, 0xff][..], &bytes.to_be_bytes(), &[0; 4]].concat();
        self.ws.get_mut().write_all(&head).expect("sent");
    }

    /// Sends a request; gives its id.
    pub(crate) fn request(&mut self, method: &str, params: &Value) -> u64 {
        let id = self.next;
        self.next += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
        id
    }

    /// A request, and the message that answers it.
    pub(crate) fn ask(&mut self, method: &str, params: &Value) -> Value {
        let id = self.request(method, params);
        self.until(|message| message["id"] == id)
    }

    /// The next message.
    pub(crate) fn next(&mut self) -> Value {
        loop {
            match self.ws.read().expect("a message") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next message that is such; what comes before it is passed over.
    pub(crate) fn until(&mut self, such: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.next();
            if such(&message) {
                return message;
            }
        }
    }

    /// Reads until the node closes the connection: the code.
    pub(crate) fn closed(&mut self) -> u16 {
        loop {
            if let Message::Close(close) = self.ws.read().expect("a frame") {
                return close.expect("a code").code.into();
            }
        }
    }
}
