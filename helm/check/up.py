"""`enfilade up --nodes 3` beside the chart: what it tells its nodes, and where they listen and answer."""

import json
import pathlib
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
    """Starts `up`, and compares what its nodes were told and what they answer."""
    with tempfile.TemporaryDirectory(prefix="enfilade-helm-") as folder:
        file = pathlib.Path(folder) / "up.yaml"
        upstreams = [{**one, "command": enfilade} for one in chart["upstreams"]]
        here = {"listen": [{"address": "127.0.0.1:0"}], "health": "127.0.0.1:0", "upstreams": upstreams}
        file.write_text(yaml.safe_dump(here))
        command = [enfilade, "--log", "off", "up", "--nodes", "3", "--config", str(file), "--data-dir", f"{folder}/d"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            urls = [process.stdout.readline().strip().removeprefix("ready ") for _ in range(3)]
            return _compare(folder, urls, chart, container, owner)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _compare(folder, urls, chart, container, owner):
    found = []
    given = {arg.split("=")[0].removeprefix("--") for arg in container["args"] if arg.startswith("--")}
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
    for url in urls:
        host, port = url.removeprefix("http://").removesuffix("/mcp").split(":")
        if mcp.ask((host, int(port)), "GET", "/healthz", host)[0] != 200:
            found.append(f"{url} does not answer /healthz")
    return found
