"""Plays the steps of a scenario file with a peer object and prints one JSON line per step.

Every Python client shares this loop; it judges nothing, the runner compares what is printed.
"""

import asyncio
import json
import sys
import traceback


def emit(line):
    print(json.dumps(line), flush=True)


def wire(model):
    """A pydantic model of the protocol as it stands on the wire."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


async def play(peer, scenario):
    """Runs the steps in order and stops at the first that raises."""
    for step in scenario["steps"]:
        try:
            value = await getattr(peer, step["op"])(step)
        except Exception as error:
            traceback.print_exc()
            emit({"error": f"{type(error).__name__}: {error}"})
            return
        emit({"value": value})


def run(session):
    """`session(url, scenario, era)` is an async function that connects and calls `play`."""
    url, path, era = sys.argv[1:4]
    with open(path, encoding="utf-8") as file:
        scenario = json.load(file)
    asyncio.run(session(url, scenario, era))
    emit({"done": True})
