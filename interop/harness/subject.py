"""What stands between clients and upstreams: the gateway, or the control that only relays."""

import json
import os
from urllib.parse import urlsplit

from harness import peers
from harness.listed import wait_until_listed
from harness.processes import Server

START_SECONDS = 60
LISTED_SECONDS = 180
STOP_SECONDS = 20


class Subject:
    """Serves every upstream at /<name>; `urls` maps names to addresses."""

    def __init__(self, world, logs):
        self.world = world
        self.logs = logs
        self.urls = {}
        self._servers = []

    def _start(self, name, command, count, env=peers.SCRIPT_ENV):
        server = Server(command, cwd=self.world.root, env=env, log=os.path.join(self.logs, f"{name}.log"))
        self._servers.append((name, server))
        return server.ready(count, START_SECONDS)

    def _start_everything_http(self):
        script = os.path.join(peers.HERE, "upstreams", "everything-http.mjs")
        return self._start("everything-http", [peers.NODE, script], 1)[0]

    def start_gateway(self, binary, nodes):
        """The gateway: a virtual server per upstream, and one with the six stdio upstreams.

        With several nodes, a balancer without stickiness stands in front of them.
        """
        http_url = self._start_everything_http()
        config = gateway_config(self.world, http_url)
        path = os.path.join(self.world.root, "gateway.yaml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file, indent=2)  # JSON is YAML
        data = os.path.join(self.world.root, "data")
        command = [binary, "up", "--nodes", str(nodes), "--config", path, "--data-dir", data]
        urls = self._start("gateway", command, nodes * len(config["servers"]), env={})
        wait_until_listed(urls, LISTED_SECONDS)
        if nodes > 1:
            urls = self._balance(urls)
        self.urls = {urlsplit(url).path.lstrip("/"): url for url in urls}
        missing = {server["name"] for server in config["servers"]} - self.urls.keys()
        if missing:
            raise RuntimeError(f"the gateway did not announce {sorted(missing)}")

    def _balance(self, urls):
        """The same paths, each request at the next node."""
        origins = sorted({f"http://{urlsplit(url).netloc}" for url in urls})
        script = os.path.join(os.path.dirname(peers.HERE), "conformance", "lib", "balancer.mjs")
        origin = self._start("balancer", [peers.NODE, script, *origins], 1, env={})[0]
        return [f"{origin}{path}" for path in sorted({urlsplit(url).path for url in urls})]

    def start_control(self):
        """No gateway: the relay for stdio, and the HTTP upstream itself."""
        stdio = peers.stdio_upstreams(self.world)
        path = os.path.join(self.world.root, "relay.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(stdio, file)
        script = os.path.join(peers.HERE, "control", "relay.mjs")
        urls = self._start("relay", [peers.NODE, script, path], len(stdio))
        self.urls = {urlsplit(url).path.lstrip("/"): url for url in urls}
        self.urls["everything-http"] = self._start_everything_http()

    def stop(self):
        """Stops the last started first; returns the reproaches."""
        reproaches = []
        for name, server in reversed(self._servers):
            # The upstream's own exit code after SIGTERM is its own affair.
            reproach = server.stop(STOP_SECONDS)
            if reproach and name != "everything-http":
                reproaches.append(f"{name} {reproach}")
        return reproaches


def gateway_config(world, http_url):
    stdio = peers.stdio_upstreams(world)
    upstreams = [{"name": name} | spec for name, spec in stdio.items()]
    upstreams.append({"name": "everything-http", "url": http_url})
    servers = [{"name": u["name"], "path": f"/{u['name']}", "upstreams": [u["name"]]} for u in upstreams]
    servers.append({"name": "all", "path": "/all", "prefix": "always", "upstreams": list(stdio)})
    listen = [{"address": "127.0.0.1:0", "protocol": "http1"}]
    return {"listen": listen, "servers": servers, "upstreams": upstreams}
