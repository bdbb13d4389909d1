#!/usr/bin/env python3
"""values.schema.json: what is written by hand, with `enfilade schema` under `$defs`.

python3 helm/make_schema.py BINARY [--write]     without --write: exit 1 when the file is not what it should be
"""

import json
import pathlib
import subprocess
import sys

FILE = pathlib.Path(__file__).parent / "enfilade" / "values.schema.json"

# Keys of the configuration that the chart decides: where a node listens, and who it is.
OWNED = ("listen", "allow_remote", "health", "data_dir")
SHARED_OF_CLUSTER = ("name", "replace_after_ms", "timing")


def referenced(value, found):
    """All definitions that a value refers to, directly."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            found.add(value["$ref"].removeprefix("#/$defs/"))
        for inner in value.values():
            referenced(inner, found)
    elif isinstance(value, list):
        for inner in value:
            referenced(inner, found)
    return found


def definitions(binary):
    """The section `config` of the values as definitions, from the program that will read it."""
    schema = json.loads(subprocess.run([binary, "schema"], check=True, capture_output=True).stdout)
    known = schema["$defs"]
    cluster = known["Cluster"]
    cluster["properties"] = {key: cluster["properties"][key] for key in SHARED_OF_CLUSTER}
    node = {key: schema[key] for key in ("type", "additionalProperties", "description") if key in schema}
    node["properties"] = {key: value for key, value in schema["properties"].items() if key not in OWNED}
    wanted, queue = {"Node": node}, [node]
    while queue:
        for name in sorted(referenced(queue.pop(), set()) - wanted.keys()):
            wanted[name] = known[name]
            queue.append(known[name])
    return dict(sorted(wanted.items()))


def main():
    binary, write = sys.argv[1], "--write" in sys.argv
    text = FILE.read_text()
    schema = json.loads(text)
    schema["$defs"] = definitions(binary)
    fresh = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    if fresh == text:
        return
    if not write:
        sys.exit("values.schema.json is not what `enfilade schema` says; run: make docs")
    FILE.write_text(fresh)


if __name__ == "__main__":
    main()
