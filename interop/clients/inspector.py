"""The interop client that drives the inspector's command line: URL SCENARIO.json legacy|modern|auto.

The command line opens one connection per step, so every step is a session of its own.
"""

import json
import os
import subprocess
import sys

from steps import emit

NODE_MODULES = os.path.join(os.environ["INTEROP_PACKAGES"], "node_modules")
NODE = os.path.join(NODE_MODULES, "node", "bin", "node")
INSPECTOR = os.path.join(NODE_MODULES, ".bin", "mcp-inspector")


def arguments(step):
    """The command line's flags for one step."""
    match step["op"]:
        case "tools" | "prompts" | "resources":
            return ["--method", f"{step['op']}/list"]
        case "call":
            args = json.dumps(step.get("args", {}))
            return ["--method", "tools/call", "--tool-name", step["tool"], "--tool-args-json", args]
        case "read":
            return ["--method", "resources/read", "--uri", step["uri"]]
        case "prompt":
            flags = ["--method", "prompts/get", "--prompt-name", step["name"]]
            pairs = [f"{key}={value}" for key, value in step.get("args", {}).items()]
            return flags + (["--prompt-args", *pairs] if pairs else [])
    raise ValueError(f"the inspector has no {step['op']}")


def value(step, result):
    """The same shape as the other clients print: names for lists, the result for the rest."""
    key = {"tools": "name", "prompts": "name", "resources": "uri"}.get(step["op"])
    return [item[key] for item in result[step["op"]]] if key else result


def play(url, era, step):
    command = [NODE, INSPECTOR, "--cli", url, "--transport", "http", "--protocol-era", era]
    command += ["--format", "json", "--quiet", *arguments(step)]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    print(f"$ {' '.join(command)}\n{ran.stdout}{ran.stderr}", file=sys.stderr)
    if not ran.stdout.strip():
        return {"error": f"exit code {ran.returncode}: {ran.stderr.strip()[-600:]}"}
    return {"value": value(step, json.loads(ran.stdout)["result"])}


def main():
    url, path, era = sys.argv[1:4]
    with open(path, encoding="utf-8") as file:
        steps = json.load(file)["steps"]
    emit({"connected": era})
    for step in steps:
        line = play(url, era, step)
        emit(line)
        if "error" in line:
            return
    emit({"done": True})


main()
