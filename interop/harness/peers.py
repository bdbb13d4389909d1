"""The rows and columns: which clients are run, and how each upstream is started."""

import os
from typing import NamedTuple

from harness.processes import RUN_MARK

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOLS = os.path.join(os.path.dirname(HERE), ".tools", "interop")
PACKAGES = os.path.join(TOOLS, "node")
MODULES = os.path.join(PACKAGES, "node_modules")
NODE = os.path.join(MODULES, "node", "bin", "node")
PYTHON = os.path.join(TOOLS, "venv", "bin", "python")
# Scripts find their packages by this, and leave nothing in the checkout.
SCRIPT_ENV = {"INTEROP_PACKAGES": PACKAGES, "PYTHONDONTWRITEBYTECODE": "1"}


class Client(NamedTuple):
    """One row: a program that takes URL, scenario file and era."""

    name: str
    era: str  # what it is told: legacy, modern or auto
    speaks: str  # what it must have negotiated with the gateway: legacy or modern
    command: tuple
    duplex: bool = False  # also answers requests from the server


def clients(rmcp_client):
    """All rows; versions stand in package.json, requirements.txt and the workspace's Cargo.toml."""
    node = lambda script: (NODE, os.path.join(HERE, "clients", script))
    python = lambda script: (PYTHON, os.path.join(HERE, "clients", script))
    return [
        Client("python mcp 2.3, modern", "modern", "modern", python("python_mcp.py")),
        Client("python mcp 2.3, legacy", "legacy", "legacy", python("python_mcp.py"), True),
        Client("typescript sdk 1.32", "legacy", "legacy", node("ts_sdk.mjs"), True),
        Client("typescript client 2.4, modern", "modern", "modern", node("ts_client.mjs")),
        Client("typescript client 2.4, legacy", "legacy", "legacy", node("ts_client.mjs"), True),
        Client("rmcp 3.9, modern", "modern", "modern", (rmcp_client,)),
        Client("rmcp 3.9, legacy", "legacy", "legacy", (rmcp_client,)),
        Client("inspector cli 2.12, modern", "modern", "modern", python("inspector.py")),
        Client("inspector cli 2.12, legacy", "legacy", "legacy", python("inspector.py")),
        Client("fastmcp 4.1, auto", "auto", "modern", python("python_fastmcp.py")),
    ]


def stdio_upstreams(world):
    """How to start every upstream: name -> {command, args, env, cwd}."""
    module = lambda path: os.path.join(MODULES, "@modelcontextprotocol", path, "dist", "index.js")
    return {
        "fs": stdio(world, NODE, module("server-filesystem"), world.files),
        "memory": stdio(world, NODE, module("server-memory"), MEMORY_FILE_PATH=world.memory),
        "everything": stdio(world, NODE, module("server-everything"), "stdio"),
        "git": stdio(world, PYTHON, "-m", "mcp_server_git", "--repository", world.repository),
        "time": stdio(world, PYTHON, "-m", "mcp_server_time", "--local-timezone", "UTC"),
        "fetch": stdio(world, PYTHON, "-m", "mcp_server_fetch", "--allow-private-ips"),
    }


def stdio(world, command, *args, **env):
    # The whole environment is spelled out: whether a gateway hands on its own is not the point here.
    mark, value = RUN_MARK.split("=")
    base = {"HOME": world.home, "PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1", mark: value}
    return {"command": command, "args": list(args), "env": base | env, "cwd": world.root}
