"""What must hold between the objects of a release, and between them and the program."""

import json
import pathlib
import re
import subprocess
import tempfile

import yaml

from render import of_kind, pod_templates

# Flags of the program before its command.
GLOBAL = ("--log", "--log-format")
# Seconds that `enfilade up` gives a node beyond the time for its calls.
STOP_GRACE = 15


def faults(objects, programs):
    """Everything that is wrong; `programs` are the paths of the programs in the image, by name."""
    found = []
    for check in (selectors, ports, hardened, graceful, budgets):
        found += check(objects)
    found += flags(objects, programs) + configurations(objects, programs["enfilade"])
    return found


def _selects(selector, pod):
    labels = pod["metadata"].get("labels", {})
    equal = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return equal and all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", []))


def selected(objects, selector):
    """The pods that a selector means."""
    return [pod for _, pod in pod_templates(objects) if _selects(selector, pod)]


def selectors(objects):
    """Each selects somebody; an owner selects its own pods and nobody else's."""
    found = []
    for one in objects:
        name = f"{one['kind']} {one['metadata']['name']}"
        spec = one.get("spec", {})
        if one["kind"] in ("StatefulSet", "Deployment"):
            if selected(objects, spec["selector"]) != [spec["template"]]:
                found.append(f"{name} does not select its own pods alone")
        elif one["kind"] == "Service" and not selected(objects, {"matchLabels": spec["selector"]}):
            found.append(f"{name} leads nowhere")
        elif one["kind"] == "PodDisruptionBudget" and not selected(objects, spec["selector"]):
            found.append(f"{name} protects nobody")
        elif one["kind"] == "NetworkPolicy" and not selected(objects, spec["podSelector"]):
            found.append(f"{name} is about nobody")
        elif one["kind"] == "HorizontalPodAutoscaler":
            target = spec["scaleTargetRef"]
            if not [of for of in of_kind(objects, target["kind"]) if of["metadata"]["name"] == target["name"]]:
                found.append(f"{name} scales nothing")
    return found


def named_ports(pod):
    """Ports of the pod's containers, by name."""
    containers = pod["spec"]["containers"]
    return {port["name"]: port for container in containers for port in container.get("ports", [])}


def ports(objects):
    """Ports of Services, policies and probes are ports of the pods that they are about."""
    found = []
    for one in of_kind(objects, "Service"):
        for port in one["spec"]["ports"]:
            for pod in selected(objects, {"matchLabels": one["spec"]["selector"]}):
                target = named_ports(pod).get(port["targetPort"])
                if target is None or target["protocol"] != port["protocol"]:
                    found.append(f"Service {one['metadata']['name']}: no port {port['targetPort']}/{port['protocol']}")
    for one in of_kind(objects, "NetworkPolicy"):
        for port in (port for rule in one["spec"]["ingress"] for port in rule["ports"]):
            for pod in selected(objects, one["spec"]["podSelector"]):
                target = named_ports(pod).get(port["port"])
                if target is None or target["protocol"] != port["protocol"]:
                    found.append(f"NetworkPolicy {one['metadata']['name']}: no port {port['port']}")
    for owner, pod in pod_templates(objects):
        for container in pod["spec"]["containers"]:
            for probe in ("livenessProbe", "readinessProbe"):
                if probe in container and container[probe]["httpGet"]["port"] not in named_ports(pod):
                    found.append(f"{owner['metadata']['name']}: {probe} asks at no port")
    return found


def hardened(objects):
    """No pod runs as root, writes to its root file system, or has a token of the cluster's API."""
    found = []
    for owner, pod in pod_templates(objects):
        spec, name = pod["spec"], owner["metadata"]["name"]
        if not (spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0):
            found.append(f"{name} may run as root")
        if spec["automountServiceAccountToken"] is not False:
            found.append(f"{name} has a token")
        for container in spec["containers"]:
            context = container["securityContext"]
            closed = context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
            if not closed or context["capabilities"] != {"drop": ["ALL"]}:
                found.append(f"{name}/{container['name']} has more rights than it needs")
    return found


def graceful(objects):
    """A pod is not killed before its calls had the time that its configuration gives them."""
    found = []
    for owner, pod in pod_templates(objects):
        if owner["kind"] not in ("StatefulSet", "Deployment"):
            continue
        config = configuration(objects, pod["spec"]["containers"][0])
        timing = config["cluster"].get("timing", {})
        drain_ms = timing.get("drain_ms", 60000) if "owner" in config["cluster"]["roles"] else 0
        drain_ms += config.get("drain_ms", 10000) if "edge" in config["cluster"]["roles"] else 0
        hook = pod["spec"]["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        needed = hook + drain_ms / 1000 + STOP_GRACE
        if pod["spec"]["terminationGracePeriodSeconds"] < needed:
            found.append(f"{owner['metadata']['name']} is killed after less than {needed} s")
    return found


def budgets(objects):
    wrong = [one for one in of_kind(objects, "PodDisruptionBudget") if one["spec"].get("maxUnavailable") != 1]
    return [f"{one['metadata']['name']}: more than one node may go at a time" for one in wrong]


def configuration(objects, container):
    """The configuration file that a container is started with."""
    path = next(arg.removeprefix("--config=") for arg in container["args"] if arg.startswith("--config="))
    secret = next(one for one in of_kind(objects, "Secret") if one["metadata"]["name"].endswith("-config"))
    return yaml.safe_load(secret["stringData"][pathlib.PurePath(path).name])


def flags(objects, programs):
    """Each argument is known to the program that gets it, and each command is one."""
    found = []
    for owner, pod in pod_templates(objects):
        for container in pod["spec"]["containers"]:
            if "args" not in container:
                continue
            program = pathlib.PurePath(container.get("command", ["/usr/bin/enfilade"])[0]).name
            if program not in programs:
                continue
            words = [arg for arg in container["args"] if not arg.startswith("-")]
            known = options(programs[program], words)
            given = [arg.split("=")[0] for arg in container["args"] if arg.startswith("--")]
            unknown = [flag for flag in given if flag not in known]
            if unknown:
                found.append(f"{owner['metadata']['name']}: {program} {' '.join(words)} does not know {unknown}")
    return found


def options(program, words):
    """The options of a command, as its help lists them."""
    help_text = subprocess.run([program, *words, "--help"], check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"(?m)^\s+(?:-\w, )?(--[a-z-]+)", help_text))


def configurations(objects, enfilade):
    """The program takes each configuration file, with what only the pod knows put in."""
    found = []
    secret = next(one for one in of_kind(objects, "Secret") if one["metadata"]["name"].endswith("-config"))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        more = []
        if "mcp.json" in secret["stringData"]:
            (folder / "mcp.json").write_text(secret["stringData"]["mcp.json"])
            more = ["--mcp-json", str(folder / "mcp.json")]
            names = re.findall(r"\$\{(\w+)\}", secret["stringData"]["mcp.json"])
        else:
            names = []
        for key in (key for key in secret["stringData"] if key.endswith(".yaml")):
            config = yaml.safe_load(secret["stringData"][key])
            config["cluster"] |= {"node": "pod", "link": "10.0.0.1:1", "gossip": "10.0.0.1:1"}
            # JSON is YAML.
            (folder / key).write_text(json.dumps(config))
            command = [enfilade, "check", "--config", str(folder / key), *more]
            done = subprocess.run(command, capture_output=True, text=True, env={name: "x" for name in names})
            if done.returncode != 0:
                found.append(f"{key}: {done.stderr.strip()}")
    return found
