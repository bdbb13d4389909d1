"""Waits until a gateway's servers list tools: a node serves before the processes behind it have started.

On a busy machine a dozen interpreters that start at once take longer than any client waits.
"""

import json
import time
import urllib.error
import urllib.request

EVERY_SECONDS = 0.25
ANSWER_SECONDS = 60
VERSION = "2026-07-28"
META = "io.modelcontextprotocol/"


def wait_until_listed(urls, seconds):
    """Returns once every URL lists at least one tool; raises with what the first of the others says."""
    until = time.monotonic() + seconds
    for url in urls:
        while (why := _missing(url)) is not None:
            if time.monotonic() > until:
                raise RuntimeError(f"{url} lists no tools within {seconds} s of the start: {why}")
            time.sleep(EVERY_SECONDS)


def _missing(url):
    """Why this URL does not list tools now; None when it does."""
    meta = {f"{META}protocolVersion": VERSION, f"{META}clientInfo": {"name": "interop", "version": "1"}}
    params = {"_meta": meta | {f"{META}clientCapabilities": {}}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params}).encode()
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": VERSION,
        "Mcp-Method": "tools/list",
    }
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
            text = response.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        text = error.read().decode("utf-8", "replace")
    except OSError as error:
        return str(error)
    try:
        tools = json.loads(text)["result"]["tools"]
    except (ValueError, KeyError, TypeError):
        return text[:300]
    return None if tools else "an empty list"
