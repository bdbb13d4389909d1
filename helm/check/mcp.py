"""A client, as small as can be: requests of both eras over HTTP, to an address under a name of its own."""

import http.client
import json

MODERN, LEGACY = "2026-07-28", "2025-11-25"
WHO = {"name": "helm-check", "version": "1"}
SECONDS = 20


def ask(address, method, path, host, headers=None, body=None):
    """One request; (status, headers, text)."""
    connection = http.client.HTTPConnection(*address, timeout=SECONDS)
    try:
        connection.request(method, path, body, {"Host": host, **(headers or {})})
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode()
    finally:
        connection.close()


def post(address, host, message, headers):
    """A message, and what comes back; the answer may be JSON or a stream."""
    always = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    status, got, text = ask(address, "POST", "/mcp", host, {**always, **headers}, json.dumps(message))
    lines = [line.removeprefix("data:").strip() for line in text.splitlines()]
    answers = [json.loads(line) for line in lines if line.startswith("{")]
    answer = next((one for one in answers if one.get("id") == message.get("id")), None)
    return status, got, answer


def call_modern(address, host, tool, arguments):
    """The text of a tool's answer, without a session."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": WHO,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": tool}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    status, _, answer = post(address, host, message, headers)
    return text_of(status, answer)


def text_of(status, answer):
    """The text of a tool's answer, or what came in its place."""
    try:
        return answer["result"]["content"][0]["text"]
    except (KeyError, IndexError, TypeError):
        return f"HTTP {status}: {answer}"


class Session:
    """A legacy session, which any node serves."""

    def __init__(self, address, host):
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": WHO}
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        status, headers, answer = post(address, host, message, {})
        assert status == 200 and answer["result"]["protocolVersion"] == LEGACY, (status, answer)
        self.host, self.next = host, 2
        self.headers = {"Mcp-Session-Id": headers["Mcp-Session-Id"], "MCP-Protocol-Version": LEGACY}
        done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert post(address, host, done, self.headers)[0] == 202

    def call(self, address, tool, arguments):
        """The text of a tool's answer, at this address."""
        params = {"name": tool, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": self.next, "method": "tools/call", "params": params}
        self.next += 1
        status, _, answer = post(address, self.host, message, self.headers)
        return text_of(status, answer)
