"""Pods as processes: what the manifests say is run as it is. Rewritten are addresses (each pod has one of 127.0.0.0/8;
every address becomes the pod's; a headless Service's name becomes its pods' addresses) and where volumes are mounted."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time

import yaml

import mcp
from render import NAMESPACE, of_kind
from static import named_ports, selected

# Until something holds that other processes bring about.
LIMIT = 60


def until(what, holds):
    """Waits for a condition; gives the seconds that it took."""
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > LIMIT:
            raise AssertionError(f"not in {LIMIT} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - begun


class Release:
    """The pods of a release on this machine."""

    def __init__(self, objects, folder, programs, net, keys):
        self.objects, self.folder, self.programs = objects, pathlib.Path(folder), programs
        self.net, self.keys = net, keys
        self.pods, self.numbers = [], 0
        for owner in of_kind(objects, "StatefulSet", "Deployment"):
            name, template = owner["metadata"]["name"], owner["spec"]["template"]
            for index in range(owner["spec"].get("replicas", 2)):
                pod = f"{name}-{index}" if owner["kind"] == "StatefulSet" else f"{name}-{index:05x}"
                self.pods.append(Pod(self, pod, template))
        self.jobs = []
        for owner in of_kind(objects, "Job"):
            for index in range(owner["spec"].get("parallelism", 1)):
                name = f"{owner['metadata']['name']}-{index}"
                # As Kubernetes tells the pods of an indexed Job.
                given = {"JOB_COMPLETION_INDEX": str(index)} if "completionMode" in owner["spec"] else {}
                self.jobs.append(Pod(self, name, owner["spec"]["template"], given))

    def address(self):
        """Another address of this machine."""
        self.numbers += 1
        return f"{self.net}.{self.numbers}"

    def of(self, component):
        return [pod for pod in self.pods if pod.component == component]

    def service(self, name):
        return next(one["spec"] for one in of_kind(self.objects, "Service") if one["metadata"]["name"] == name)

    def behind(self, service):
        """The pods that a Service leads to."""
        spec = self.service(service)
        templates = selected(self.objects, {"matchLabels": spec["selector"]})
        return [pod for pod in self.pods + self.jobs if pod.template in templates]

    def ports(self, service):
        """Where a Service leads: its port, and an address for each of its pods."""
        spec = self.service(service)
        port = spec["ports"][0]
        return port["port"], [pod.port(port["targetPort"]) for pod in self.behind(service)]

    def resolve(self, text):
        """`HOST:PORT` with a name of a headless Service, or of one of its pods, as addresses."""
        host, _, port = text.rpartition(":")
        name = host.removesuffix(f".{NAMESPACE}.svc")
        pod, _, service = name.rpartition(".")
        found = [one for one in self.behind(service) if pod in ("", one.name)]
        assert found, f"{text} is nobody's name"
        return [f"{one.ip}:{self.port(service, int(port), one)}" for one in found]

    def port(self, service, port, pod):
        """The port of a pod that a Service's port leads to; a headless one leads to the same."""
        spec = self.service(service)
        target = next(one["targetPort"] for one in spec["ports"] if one["port"] == port)
        return port if spec.get("clusterIP") == "None" else pod.port(target)[1]

    def files(self, volume):
        """The files of a volume at its beginning; None when they are of a Secret that the release does not bring."""
        secret, config = volume.get("secret"), volume.get("configMap")
        for one in of_kind(self.objects, "Secret", "ConfigMap"):
            if secret and one["kind"] == "Secret" and one["metadata"]["name"] == secret["secretName"]:
                return one["stringData"]
            if config and one["kind"] == "ConfigMap" and one["metadata"]["name"] == config["name"]:
                return one["data"]
        return None if secret else {}

    def stop(self):
        for pod in self.pods + self.jobs:
            pod.kill()


class Pod:
    """One pod: its volumes last, its container starts again and again."""

    def __init__(self, release, name, template, given=None):
        self.release, self.name, self.template, self.given = release, name, template, given or {}
        self.component = template["metadata"]["labels"]["app.kubernetes.io/component"]
        self.ip, self.process = release.address(), None
        self.container = template["spec"]["containers"][0]
        self.said = []

    def move(self):
        """Gives it another address, as on another machine; so its neighbours' names mean others."""
        self.ip = self.release.address()
        for pod in self.release.pods:
            shutil.rmtree(self.release.folder / pod.name / "config", ignore_errors=True)

    def port(self, name):
        """Address and number of a named port."""
        return self.ip, named_ports(self.template)[name]["containerPort"]

    def mounted(self, text):
        """A text with the paths of volumes as they are here."""
        volumes = {mount["mountPath"]: mount["name"] for mount in self.container.get("volumeMounts", [])}
        pattern = "|".join(re.escape(path) for path in sorted(volumes, key=len, reverse=True))
        # In one pass: what is put in may look like another path.
        return re.sub(rf"(?:{pattern})(?=/|\s|$)", lambda found: str(self.volume(volumes[found[0]])), text)

    def volume(self, name):
        """Where a volume is here; it is filled at its first use."""
        volumes = {one["name"]: one for one in self.template["spec"].get("volumes", [])}
        files = self.release.files(volumes.get(name, {}))
        if files is None:
            return self.release.keys
        place = self.release.folder / self.name / name
        if not place.exists():
            place.mkdir(parents=True)
            for file, text in files.items():
                (place / file).write_text(self.rewritten(text) if file.endswith(".yaml") else text)
        return place

    def rewritten(self, text):
        """A configuration file with addresses and paths of this machine."""
        config = yaml.safe_load(text)
        config["cluster"]["seeds"] = [one for seed in config["cluster"]["seeds"] for one in self.release.resolve(seed)]
        return self.mounted(yaml.safe_dump(config).replace("0.0.0.0:", f"{self.ip}:"))

    def here(self, argument):
        """An argument with paths and addresses of this machine; a name of several pods becomes as many arguments."""
        argument = self.mounted(argument).replace("0.0.0.0:", f"{self.ip}:")
        name = re.search(rf"[a-z0-9.-]+\.{NAMESPACE}\.svc:\d+", argument)
        return [argument.replace(name[0], place) for place in self.release.resolve(name[0])] if name else [argument]

    def start(self):
        """Starts the container."""
        assert self.process is None
        facts = {"metadata.name": self.name, "status.podIP": self.ip}
        env = {one["name"]: facts[one["valueFrom"]["fieldRef"]["fieldPath"]] for one in self.container.get("env", [])}
        expanded = [re.sub(r"\$\((\w+)\)", lambda found: env[found[1]], arg) for arg in self.container["args"]]
        program = pathlib.PurePath(self.container.get("command", ["/usr/bin/enfilade"])[0]).name
        arguments = [one for arg in expanded for one in self.here(arg)]
        self.said = []
        log = open(self.release.folder / f"{self.name}.log", "ab")
        self.process = subprocess.Popen(
            [self.release.programs[program], *arguments], stdout=subprocess.PIPE, stderr=log, text=True,
            env={**env, **self.given, "PATH": os.environ["PATH"]},
        )
        log.close()
        threading.Thread(target=self._listen, args=(self.process, self.said), daemon=True).start()

    @staticmethod
    def _listen(process, said):
        for line in process.stdout:
            said.append(line.strip())

    def probe(self, which):
        """The status that a probe gets; 0 when nobody answers."""
        get = self.container[which]["httpGet"]
        try:
            return mcp.ask(self.port(get["port"]), "GET", get["path"], "a-kubelet")[0]
        except OSError:
            return 0

    def ready(self):
        return until(f"{self.name} is ready", lambda: self._runs() and self.probe("readinessProbe") == 200)

    def alive(self):
        return until(f"{self.name} answers", lambda: self._runs() and self.probe("livenessProbe") == 200)

    def _runs(self):
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}"
        return True

    def begin_stop(self):
        """SIGTERM, as after the preStop hook."""
        self.process.send_signal(signal.SIGTERM)

    def ended(self):
        """(Exit code, seconds) of a container that was told to stop; it is killed when its time is over."""
        begun = time.monotonic()
        code = self.process.wait(self.template["spec"]["terminationGracePeriodSeconds"])
        self.process = None
        return code, time.monotonic() - begun

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
