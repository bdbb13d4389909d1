"""One cell: runs one client with one scenario and judges what it printed."""

import json
import os
import re
import threading
import time
from typing import NamedTuple

from harness import checks
from harness.peers import SCRIPT_ENV
from harness.processes import run_bounded

CELL_SECONDS = 45
MODERN = {"2026-07-28", "modern"}

# The store of the memory server is one file: its cells take turns, each on an empty graph.
MEMORY = threading.Lock()


class Outcome(NamedTuple):
    """`reason` is None for a green cell."""

    client: str
    scenario: str
    reason: str | None
    seconds: float
    log: str


def run(client, scenario, url, world, logs, control, until):
    """Never raises for what a peer does: every failure is the cell's reason."""
    if time.monotonic() > until:
        return Outcome(client.name, scenario.name, "not played: the run's time was up", 0.0, "-")
    slug = re.sub(r"[^a-z0-9]+", "-", f"{client.name} {scenario.name}".lower())
    log = os.path.join(logs, f"{slug}.log")
    started = time.monotonic()
    if scenario.path == "memory":
        with MEMORY:
            world.forget_memory()
            reason = attempt(client, scenario, url, world, log, control)
    else:
        reason = attempt(client, scenario, url, world, log, control)
    return Outcome(client.name, scenario.name, reason, time.monotonic() - started, log)


def attempt(client, scenario, url, world, log, control):
    path = log.removesuffix(".log") + ".json"
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"steps": [step.do for step in scenario.steps], "answers": scenario.answers}, file)
    era, speaks = client.era, client.speaks
    if control:  # the relay and the upstreams behind it are legacy
        era, speaks = ("legacy" if era == "legacy" else "auto"), "legacy"
    env = SCRIPT_ENV | {"HOME": world.home, "NO_PROXY": "127.0.0.1"}
    command = [*client.command, url, path, era]
    code, out = run_bounded(command, cwd=world.root, env=env, log=log, seconds=CELL_SECONDS)
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"--- stdout of {' '.join(command)}\n{out}")
    return judge(scenario, speaks, code, out)


def judge(scenario, speaks, code, out):
    """The first thing wrong, or None."""
    lines = parsed(out)
    if not lines:
        return "did not connect" + ended(code)
    version, results = lines[0].get("connected"), lines[1:]
    if version != "auto" and (version in MODERN) != (speaks == "modern"):
        return f"connected with {version}, not with a {speaks} revision"
    for number, step in enumerate(scenario.steps):
        what = " ".join(str(step.do[key]) for key in ("op", "tool", "uri", "name", "method") if key in step.do)
        if number >= len(results) or "done" in results[number]:
            return f"{what}: no answer" + ended(code)
        if "error" in results[number]:
            return f"{what}: {checks.short(results[number]['error'])}"
        try:
            step.check(results[number]["value"])
        except checks.Mismatch as mismatch:
            return f"{what}: {mismatch}"
        except Exception as error:
            value = checks.short(results[number]["value"])
            return f"{what}: {type(error).__name__} {error} in {value}"
    if lines[-1] != {"done": True} or code != 0:
        return "all steps right, but it did not close in order" + ended(code)
    return None


def parsed(out):
    """The JSON lines; not `splitlines`, which also breaks at U+2028. A torn last line is left out."""
    whole = out.split("\n")[:-1]
    return [json.loads(line) for line in whole if line.startswith("{")]


def ended(code):
    return f" (stopped after {CELL_SECONDS} s)" if code is None else f" (exit code {code})"
