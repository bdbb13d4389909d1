"""The rendered manifests, run: pods become processes, clients come through the Service's port."""

import json
import pathlib
import random
import re
import shutil
import subprocess
import tempfile

import yaml

import mcp
from pods import LIMIT, Release, until
from render import CHART, NAMESPACE, RELEASE, of_kind, render

NAME = f"{RELEASE}-enfilade"
HOST = f"{NAME}.{NAMESPACE}.svc"

# Whether the Jobs find each other and the Service, not what a gateway can do.
STREAMS, WORKERS = 60, 2
SMALLER = {"connections": STREAMS, "opens_per_second": 30.0, "hold": '"6s"', "per_second": 10.0}


def load_test_values():
    """The chart's own scenario, with smaller numbers."""
    scenario = yaml.safe_load((pathlib.Path(CHART) / "values.yaml").read_text())["loadtest"]["scenario"]
    for key, value in SMALLER.items():
        scenario, times = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", scenario)
        assert times == 1, f"the chart's scenario says {times} times {key}"
    return {"enabled": True, "workers": WORKERS, "scenario": scenario}


class Demo:
    """An MCP server for the gateway to stand before."""

    def __init__(self, enfilade):
        command = [enfilade, "--log", "off", "demo", "--name", "demo"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip().removeprefix("ready ")

    def values(self, **more):
        return {**more, "config": {"upstreams": [{"name": "demo", "url": self.url}]}}

    def stop(self):
        self.process.kill()
        self.process.wait()


def prove(programs, tell):
    """Runs a release with edges of its own, then one without. Raises what does not hold."""
    demo = Demo(programs["enfilade"])
    try:
        for title, story, values in (
            ("owners and edges", with_edges, demo.values()),
            ("all roles in each pod", without_edges, demo.values(edge={"enabled": False}, loadtest=load_test_values())),
        ):
            with tempfile.TemporaryDirectory(prefix="enfilade-helm-") as folder:
                keys = pathlib.Path(folder) / "keys"
                subprocess.run([programs["enfilade"], "keys", "--out", str(keys)], check=True)
                # Somebody else's pods may be on the same machine.
                net = f"127.{random.randint(2, 250)}.{random.randint(0, 250)}"
                release = Release(render(values), folder, programs, net, keys)
                try:
                    story(release, lambda text: tell(f"{title}: {text}"))
                except BaseException:
                    logs = sorted(pathlib.Path(folder).glob("*.log"))
                    tell("\n".join(f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-8:]) for log in logs))
                    raise
                finally:
                    release.stop()
    finally:
        demo.stop()


def equal(got, expected):
    assert got == expected, f"{got!r} instead of {expected!r}"


def found(release, tell):
    """Starts all pods; a node alone is alive and not ready."""
    first, *others = release.of("node")
    first.start()
    first.alive()
    assert first.probe("readinessProbe") == 503, "a node without the other voters is not ready"
    for pod in others + release.of("edge"):
        pod.start()
    seconds = max(pod.ready() for pod in release.pods)
    for pod in release.pods:
        assert pod.probe("livenessProbe") == 200
        bound(pod)
    tell(f"{len(release.pods)} pods ready, {seconds:.1f} s after the last one was started")


def bound(pod):
    """The node listens at the ports of its container, and at no others."""
    until(f"{pod.name} says where it is", lambda: any(line.startswith("ready") for line in pod.said))
    said = dict(line.split(" ", 1) for line in pod.said if " " in line)
    told = {"http": said.get("ready", "").removeprefix("http://").split("/")[0]}
    told |= {name: said[name] for name in ("link", "gossip", "health")}
    ports = {one["name"]: f"{pod.ip}:{one['containerPort']}" for one in pod.container["ports"]}
    assert {name: place for name, place in told.items() if place} == ports, (pod.name, told, ports)


def through_the_service(release, tell):
    """A session that goes from pod to pod; gives it and the pods' addresses."""
    port, addresses = release.ports(NAME)
    assert port == 8808 and len(addresses) > 1, (port, addresses)
    for host in (HOST, f"{NAME}:{port}", f"{NAME}.{NAMESPACE}.svc.cluster.local:{port}"):
        equal(mcp.call_modern(addresses[0], host, "echo", {"text": "x"}), "x")
    refused = mcp.call_modern(addresses[0], "elsewhere.example", "echo", {"text": "x"})
    assert refused.startswith("HTTP 403"), refused
    session = mcp.Session(addresses[0], HOST)
    for address in addresses:
        equal(session.call(address, "echo", {"text": str(address)}), str(address))
    tell(f"a session that was opened at one of {len(addresses)} pods behind the Service works at all")
    return session, addresses


def test_hook(release, tell):
    """The first container of `helm test`, as it is; what the second one asks."""
    test = of_kind(release.objects, "Pod")[0]
    registry, client = test["spec"]["containers"]
    args = [arg.replace("/etc/enfilade/keys", str(release.keys)) for arg in registry["args"]]
    args = [f"--node={release.resolve(arg[7:])[0]}" if arg.startswith("--node=") else arg for arg in args]
    done = subprocess.run([release.programs["enfilade"], *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    url = client["command"][-1]
    assert url == f"http://{HOST}:8808/healthz"
    assert all(mcp.ask(address, "GET", "/healthz", f"{HOST}:8808")[0] == 200 for address in release.ports(NAME)[1])
    tell("what `helm test` asks is answered")


def with_edges(release, tell):
    """A release with edges: nodes are drained and come back, edges are killed and replaced."""
    found(release, tell)
    session, addresses = through_the_service(release, tell)
    test_hook(release, tell)

    slowest = 0
    for pod in reversed(release.of("node")):
        pod.begin_stop()
        until(f"{pod.name} is not ready", lambda pod=pod: pod.probe("readinessProbe") in (0, 503))
        code, seconds = pod.ended()
        assert code == 0, f"{pod.name} ended with {code}"
        slowest = max(slowest, seconds)
        equal(session.call(addresses[1], "echo", {"text": pod.name}), pod.name)
        pod.move()
        pod.start()
        pod.ready()
    tell(f"a rolling restart with new addresses: no session lost; the slowest drain {slowest:.1f} s")

    edge = release.of("edge")[0]
    edge.kill()
    # A Deployment's pod has a new name, and nothing of the one before.
    release.pods[release.pods.index(edge)] = again = type(edge)(release, f"{edge.name}b", edge.template)
    again.start()
    again.ready()
    equal(session.call(again.port("http"), "echo", {"text": "y"}), "y")
    tell("an edge that was killed is replaced by a new node")

    for pod in release.pods:
        pod.kill()
    for pod in release.pods:
        pod.move()
    for pod in release.pods:
        pod.start()
    seconds = max(pod.ready() for pod in release.pods)
    equal(session.call(again.port("http"), "echo", {"text": "z"}), "z")
    tell(f"all pods killed at once and started with new addresses: ready after {seconds:.1f} s, the session is there")

    lost = release.of("node")[0]
    lost.kill()
    shutil.rmtree(lost.volume("data"))
    lost.start()
    lost.ready()
    equal(session.call(again.port("http"), "echo", {"text": "v"}), "v")
    tell("the first voter, its volume lost, joined and founded nothing: the session is there")


def without_edges(release, tell):
    """A release without edges of its own, and the load test as its Jobs."""
    found(release, tell)
    through_the_service(release, tell)
    if "enfilade-loadtest" in release.programs:
        load_test(release, tell)


def load_test(release, tell):
    """Coordinator and workers of the Jobs, as they are."""
    for pod in release.jobs:
        pod.start()
    coordinator = next(pod for pod in release.jobs if "coordinator" in pod.name)
    codes = {pod.name: pod.process.wait(LIMIT) for pod in release.jobs}
    # Beyond its limits (1), or the generator at its own (3), says something of this machine and nothing of the chart.
    assert codes.pop(coordinator.name) in (0, 1, 3), coordinator.said
    assert set(codes.values()) == {0}, codes
    report = json.loads((coordinator.volume("results") / "report.json").read_text())
    equal((len(report["workers"]), report["streams_most"]), (WORKERS, STREAMS))
    tell(f"the load test's Jobs held {STREAMS} streams through the Service and left a report")
