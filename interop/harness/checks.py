"""Literal comparisons of what a client printed with what the upstream must have answered."""

import json


class Mismatch(Exception):
    """What was expected and what came, cut to a readable length."""

    def __init__(self, expected, got):
        super().__init__(f"expected {short(expected)}\n    got      {short(got)}")


def short(value, limit=400):
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


# Hints that the eras and the clients' own models add; they are not what a peer wrote.
HINTS = {"_meta", "resultType", "ttlMs", "cacheScope"}


def plain(value):
    """The same value without hints, nulls and the default `isError: false`."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: plain(item) for key, item in value.items() if key not in HINTS and item is not None}
    if kept.get("isError") is False:
        del kept["isError"]
    return kept


def equals(expected):
    def check(value):
        if plain(value) != expected:
            raise Mismatch(expected, plain(value))

    return check


def one_of(make):
    """`make()` gives the acceptable values at the time of comparison (results that name today)."""

    def check(value):
        accepted = make()
        if plain(value) not in accepted:
            raise Mismatch(accepted, plain(value))

    return check


def includes(*names):
    """A list that holds at least these names, each once."""

    def check(value):
        counts = {name: value.count(name) for name in names}
        if any(count != 1 for count in counts.values()):
            raise Mismatch(f"a list with one each of {list(names)}", value)

    return check


def text(*texts, structured=None, error=False):
    """A tool result with exactly these text blocks."""
    result = {"content": [{"type": "text", "text": item} for item in texts]}
    if structured is not None:
        result["structuredContent"] = structured
    if error:
        result["isError"] = True
    return equals(result)


def text_after(prefix, expected):
    """A tool result with one text block: a prefix, then JSON that equals `expected`."""

    def check(value):
        content = plain(value).get("content", [])
        got = content[-1].get("text", "") if content else ""
        if not got.startswith(prefix):
            raise Mismatch(prefix, value)
        if json.loads(got.removeprefix(prefix)) != expected:
            raise Mismatch(expected, got.removeprefix(prefix))

    return check


def user_message(expected):
    """A prompt that consists of one user message."""
    message = {"role": "user", "content": {"type": "text", "text": expected}}

    def check(value):
        if plain(value).get("messages") != [message]:
            raise Mismatch([message], value)

    return check


def resource(uri, mime_type, body):
    """A resource read with one text content."""
    return equals({"contents": [{"uri": uri, "mimeType": mime_type, "text": body}]})
