"""The columns: what every client does with every upstream, and the literal answers that must come."""

import datetime
import json
import os
from typing import Any, Callable, NamedTuple
from zoneinfo import ZoneInfo

from harness import checks, world
from harness.peers import MODULES


class Step(NamedTuple):
    """One operation for the client and the judgement of the value it prints."""

    do: dict
    check: Callable[[Any], None]


def step(op, check, **params):
    return Step({"op": op} | params, check)


def call(tool, check, progress=False, **args):
    return step("call", check, tool=tool, args=args, **({"progress": True} if progress else {}))


class Scenario(NamedTuple):
    """One column. `path` is the virtual server; `answers` makes it a duplex scenario."""

    name: str
    path: str
    steps: list
    answers: dict = {}


def filesystem(w):
    """Reads what the harness wrote, with every awkward character, small and large; writes and reads back."""
    read = lambda name, body: call(
        "read_text_file", checks.text(body, structured={"content": body}), path=w.file(name)
    )
    written, body = w.file("written.txt"), f"written through the gateway\n{world.AWKWARD}"
    wrote = f"Successfully wrote to {written}"
    return [
        step("tools", checks.includes("read_text_file", "write_file", "list_directory")),
        read("notes.txt", world.AWKWARD),
        read("large.txt", world.AWKWARD * 4096),
        call("write_file", checks.text(wrote, structured={"content": wrote}), path=written, content=body),
        read("written.txt", body),
    ]


def memory(_w):
    """Creates an entity and finds it in the graph, as a tool result and as a resource."""
    entity = {"name": "Enfilade", "entityType": "gateway", "observations": ["rooms in a row: \u00e9"]}
    created = json.dumps([entity], indent=2, ensure_ascii=False)
    graph = {"entities": [entity], "relations": []}
    shown = json.dumps(graph, indent=2, ensure_ascii=False)
    uri = "memory://knowledge-graph"
    return [
        step("tools", checks.includes("create_entities", "read_graph")),
        call("create_entities", checks.text(created, structured={"entities": [entity]}), entities=[entity]),
        call("read_graph", checks.text(shown, structured=graph)),
        step("resources", checks.includes(uri)),
        step("read", checks.resource(uri, "application/json", shown), uri=uri),
    ]


FEATURES = "demo://resource/static/document/features.md"


def features_document():
    folder = os.path.join(MODULES, "@modelcontextprotocol", "server-everything", "dist", "docs")
    with open(os.path.join(folder, "features.md"), encoding="utf-8", newline="") as file:
        return checks.resource(FEATURES, "text/markdown", file.read())


def everything(_w):
    """Tools with plain and structured results, prompts and resources."""
    weather = {"temperature": 33, "conditions": "Cloudy", "humidity": 82}
    weather_text = json.dumps(weather, separators=(",", ":"))
    shown = checks.text(weather_text, structured=weather)
    return [
        step("tools", checks.includes("echo", "get-sum", "get-structured-content")),
        call("echo", checks.text(f"Echo: {world.AWKWARD}"), message=world.AWKWARD),
        call("get-sum", checks.text("The sum of 2 and 40 is 42."), a=2, b=40),
        call("get-structured-content", shown, location="New York"),
        step("resources", checks.includes(FEATURES)),
        step("read", features_document(), uri=FEATURES),
        step("prompts", checks.includes("simple-prompt", "args-prompt")),
        step(
            "prompt",
            checks.user_message("What's weather in Oslo, Norway?"),
            name="args-prompt",
            args={"city": "Oslo", "state": "Norway"},
        ),
    ]


def git(w):
    """The log of the repository that the harness made, byte for byte."""
    entries = [
        f"Commit: {commit}\nAuthor: Ada\nDate: {date.replace('T', ' ')}\nMessage: {message}\n\n"
        for commit, (message, date) in zip(w.commits, world.COMMITS)
    ]
    log = "Commit history:\n" + "\n".join(reversed(entries))
    return [
        step("tools", checks.includes("git_log", "git_status")),
        call("git_log", checks.text(log), repo_path=w.repository),
    ]


def conversions():
    """16:30 in Tokyo seen from Kolkata, today; near midnight there two days are right."""
    now = datetime.datetime.now(ZoneInfo("Asia/Tokyo"))
    return [conversion(day.date()) for day in (now, now - datetime.timedelta(minutes=2))]


def conversion(day):
    moment = datetime.datetime(day.year, day.month, day.day, 16, 30, tzinfo=ZoneInfo("Asia/Tokyo"))

    def shown(zone):
        local = moment.astimezone(ZoneInfo(zone))
        weekday = local.strftime("%A")
        return {"timezone": zone, "datetime": local.isoformat(), "day_of_week": weekday, "is_dst": False}

    result = {"source": shown("Asia/Tokyo"), "target": shown("Asia/Kolkata"), "time_difference": "-3.5h"}
    content = [{"type": "text", "text": json.dumps(result, indent=2)}]
    return {"content": content, "structuredContent": result}


CONVERT = {"source_timezone": "Asia/Tokyo", "time": "16:30", "target_timezone": "Asia/Kolkata"}


def time(_w):
    """A conversion between zones without summer time."""
    return [
        step("tools", checks.includes("get_current_time", "convert_time")),
        call("convert_time", checks.one_of(conversions), **CONVERT),
    ]


NO_MARKDOWN = "Content type text/plain; charset=utf-8 cannot be simplified to markdown, but here is the raw content:\n"


def fetch(w):
    """A page of the harness's own site, one that robots.txt closes, and the prompt."""
    page, private = f"{w.pages}/page.txt", f"{w.pages}/private/page.txt"

    def refused(value):
        result = checks.plain(value)
        told = result["content"][0]["text"]
        wanted = f"The sites robots.txt ({w.pages}/robots.txt), specifies that autonomous fetching"
        if not result.get("isError") or wanted not in told or world.ROBOTS not in told:
            raise checks.Mismatch(f"isError and {wanted}", value)

    return [
        step("tools", checks.includes("fetch")),
        call("fetch", checks.text(f"{NO_MARKDOWN}Contents of {page}:\n{world.PAGE}"), url=page),
        call("fetch", refused, url=private),
        step("prompts", checks.includes("fetch")),
        step("prompt", checks.user_message(NO_MARKDOWN + world.PAGE), name="fetch", args={"url": page}),
    ]


def together(w):
    """All six behind one path with prefixed names; one tool and one prompt through each kind of name."""
    tools = [
        "fs__read_text_file",
        "memory__read_graph",
        "everything__echo",
        "git__git_log",
        "time__convert_time",
        "fetch__fetch",
    ]
    notes = checks.text(world.AWKWARD, structured={"content": world.AWKWARD})
    return [
        step("tools", checks.includes(*tools)),
        call("time__convert_time", checks.one_of(conversions), **CONVERT),
        call("fs__read_text_file", notes, path=w.file("notes.txt")),
        call("everything__get-sum", checks.text("The sum of 2 and 40 is 42."), a=2, b=40),
        step("prompts", checks.includes("everything__simple-prompt", "fetch__fetch")),
        step(
            "prompt",
            checks.user_message("This is a simple prompt without arguments."),
            name="everything__simple-prompt",
        ),
    ]


ANSWERS = {
    "sampling": {
        "model": "interop-model",
        "stopReason": "endTurn",
        "role": "assistant",
        "content": {"type": "text", "text": "an answer: \u00e9"},
    },
    "elicitation": {"action": "accept", "content": {"name": "Ada", "integer": 7}},
    "roots": [{"uri": "file:///interop/root", "name": "interop root"}],
}
ROOTS = (
    "Current MCP Roots (1 total):\n\n1. interop root\n   URI: file:///interop/root\n\n"
    "Note: This server demonstrates the roots protocol capability but doesn't actually access files. "
    "The roots are provided by the MCP client and can be used by servers that need file system access."
)


def asked(value):
    """The client saw each kind of request once, with the upstream's own parameters."""
    methods = sorted(item["method"] for item in value)
    if methods != ["elicitation/create", "roots/list", "sampling/createMessage"]:
        raise checks.Mismatch("one request of each kind", methods)
    by_method = {item["method"]: item.get("params") for item in value}
    sampling = by_method["sampling/createMessage"]
    prompt = "Resource trigger-sampling-request context: why?"
    checks.equals([{"role": "user", "content": {"type": "text", "text": prompt}}])(sampling["messages"])
    checks.equals(5)(sampling["maxTokens"])
    checks.equals(["name"])(by_method["elicitation/create"]["requestedSchema"]["required"])


def elicited(value):
    content = checks.plain(value)["content"]
    told = ["\u2705 User provided the requested information!", "User inputs:\n- Name: Ada\n- Favorite Integer: 7"]
    checks.equals(told)([item["text"] for item in content[:2]])
    checks.text_after("\nRaw result: ", ANSWERS["elicitation"])(value)


def nothing(_value):
    """The operation's success is the result."""


def duplex(_w):
    """What the server sends on its own: requests, progress, log messages, resource updates."""
    uri = "demo://resource/dynamic/text/1"
    sampled = checks.text_after("LLM sampling result: \n", ANSWERS["sampling"])
    long = "Long running operation completed. Duration: 0.4 seconds, Steps: 4."
    conditional = ["trigger-sampling-request", "trigger-elicitation-request", "get-roots-list"]
    return [
        step("tools", checks.includes("echo", *conditional)),
        call("trigger-sampling-request", sampled, prompt="why?", maxTokens=5),
        call("trigger-elicitation-request", elicited),
        call("get-roots-list", checks.text(ROOTS)),
        step("asked", asked),
        call("trigger-long-running-operation", checks.text(long), progress=True, duration=0.4, steps=4),
        step("progress", checks.equals([[1, 4], [2, 4], [3, 4], [4, 4]])),
        step("level", checks.equals({}), level="debug"),
        call("toggle-simulated-logging", nothing),
        step("notified", nothing, method="notifications/message", containing="message"),
        step("subscribe", checks.equals({}), uri=uri),
        call("toggle-subscriber-updates", nothing),
        step("notified", checks.equals({"uri": uri}), method="notifications/resources/updated"),
    ]


def scenarios(w):
    """All columns, in the order of the table."""
    return [
        Scenario("fs", "fs", filesystem(w)),
        Scenario("memory", "memory", memory(w)),
        Scenario("git", "git", git(w)),
        Scenario("time", "time", time(w)),
        Scenario("fetch", "fetch", fetch(w)),
        Scenario("everything", "everything", everything(w)),
        Scenario("everything-http", "everything-http", everything(w)),
        Scenario("all", "all", together(w)),
        Scenario("duplex", "everything", duplex(w), ANSWERS),
        Scenario("duplex-http", "everything-http", duplex(w), ANSWERS),
    ]
