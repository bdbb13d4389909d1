"""`enfilade up --nodes 3` beside the chart: how it starts its nodes, what it tells them, where they listen and answer."""

import json
import pathlib
import random
import signal
import subprocess
import tempfile

import yaml

import mcp
from render import of_kind, pod_templates, render
from sets import GOOD
from static import configuration, named_ports


def differences(enfilade):
    """What the chart says otherwise than `up`, and should not."""
    objects = render(GOOD["no edges of their own"])
    owner, pod = next((owner, pod) for owner, pod in pod_templates(objects) if owner["kind"] == "StatefulSet")
    container = pod["spec"]["containers"][0]
    return _defaults(enfilade, pod) + _running(enfilade, configuration(objects, container), container, owner)


def _defaults(enfilade, pod):
    """The chart's ports are the program's defaults."""
    schema = json.loads(subprocess.run([enfilade, "schema"], check=True, capture_output=True).stdout)
    cluster = schema["$defs"]["Cluster"]["properties"]
    expected = {
        "http": schema["properties"]["listen"]["default"][0]["address"],
        "link": cluster["link"]["default"],
        "gossip": cluster["gossip"]["default"],
    }
    ports = named_ports(pod)
    return [
        f"{name}: {ports[name]['containerPort']} in the chart, {address} by default"
        for name, address in expected.items()
        if not address.endswith(f":{ports[name]['containerPort']}")
    ]


def _running(enfilade, chart, container, owner):
    """Starts `up` at the chart's ports, and compares what its nodes were told and what they answer."""
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    # Nodes count up from the first one's port, so clients and health have an address each.
    net = f"127.{random.randint(2, 250)}.{random.randint(0, 250)}"
    http, health = (f"{net}.1", ports["http"]), (f"{net}.2", ports["health"])
    with tempfile.TemporaryDirectory(prefix="enfilade-helm-") as folder:
        file = pathlib.Path(folder) / "up.yaml"
        upstreams = [{**one, "command": enfilade} for one in chart["upstreams"]]
        listen = [{"address": ":".join(map(str, http))}]
        file.write_text(yaml.safe_dump({"listen": listen, "health": ":".join(map(str, health)), "upstreams": upstreams}))
        command = [enfilade, "--log", "off", "up", "--nodes", "3", "--config", str(file), "--data-dir", f"{folder}/d"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            urls = [process.stdout.readline().strip().removeprefix("ready ") for _ in range(3)]
            found = _told(folder, chart, container, owner) + _started(process.pid, container)
            return found + _answers(urls, http, health, container)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _told(folder, chart, container, owner):
    """What the nodes' files say."""
    found = []
    given = {flag.removeprefix("--") for flag in _flags(container["args"])}
    for number in (1, 2, 3):
        told = yaml.safe_load((pathlib.Path(folder) / "d" / f"node-{number}.yaml").read_text())
        of_chart = set(chart["cluster"]) | given
        # Left out, these have the same defaults.
        given_by_up = {key for key, value in told["cluster"].items() if value is not None}
        missing = given_by_up - of_chart - {"timing", "replace_after_ms"}
        if missing:
            found.append(f"`up` tells its nodes {sorted(missing)}, the chart does not")
        if set(told["cluster"]["roles"]) != set(chart["cluster"]["roles"]):
            found.append(f"roles: {told['cluster']['roles']} of `up`, {chart['cluster']['roles']} of the chart")
        voters = len(told["cluster"]["voters"]), len(chart["cluster"]["voters"]), owner["spec"]["replicas"]
        if set(voters) != {3}:
            found.append(f"voters of `up`, of the chart, and pods: {voters}")
    return found


def _flags(arguments):
    return {argument.split("=")[0] for argument in arguments if argument.startswith("--")}


def _started(pid, container):
    """The nodes run the chart's command with the chart's flags; what the chart adds is in their files (`_told`)."""
    found, nodes = [], []
    for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        arguments = pathlib.Path(f"/proc/{child}/cmdline").read_text().split("\0")
        if "serve" in arguments:
            nodes.append(arguments)
    if len(nodes) != 3 or "serve" not in container["args"]:
        found.append(f"`up` runs {len(nodes)} times `serve`, the chart {container['args']}")
    for arguments in nodes:
        # Nodes of `up` end with it.
        missing = _flags(arguments) - _flags(container["args"]) - {"--with-parent"}
        if missing:
            found.append(f"`up` starts its nodes with {sorted(missing)}, the chart does not")
    return found


def _answers(urls, http, health, container):
    """Clients and probes are answered at the chart's ports."""
    found = []
    for number, url in enumerate(urls):
        if url != f"http://{http[0]}:{http[1] + number}/mcp":
            found.append(f"node {number + 1} of `up` is at {url}, not at the chart's port")
        for probe in ("livenessProbe", "readinessProbe"):
            get = container[probe]["httpGet"]
            status = mcp.ask((health[0], health[1] + number), "GET", get["path"], "a-kubelet")[0]
            if (get["port"], status) != ("health", 200):
                found.append(f"{probe}: node {number + 1} of `up` answers {status} to {get}")
    return found
