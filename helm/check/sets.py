"""Values that must render, and values that must be refused."""

UPSTREAM = {"name": "demo", "command": "/usr/bin/enfilade", "args": ["demo", "--stdio"], "sessions": "shared"}


def with_upstream(values=None, **config):
    """Values with one upstream, and what else the configuration is to have."""
    return {**(values or {}), "config": {"upstreams": [UPSTREAM], **config}}


GOOD = {
    "defaults": with_upstream(),
    "one node of all roles": with_upstream({"edge": {"enabled": False}, "nodes": {"replicas": 1, "voters": 1}}),
    "no edges of their own": with_upstream({"edge": {"enabled": False}}),
    "many edges": with_upstream({"edge": {"autoscaling": {"enabled": True, "minReplicas": 4, "maxReplicas": 40}}}),
    "keys and names": with_upstream(
        {"keys": {"secret": "mcp-keys"}, "fullnameOverride": "gw", "image": {"digest": "sha256:" + "a" * 64}},
        hosts=["mcp.example.com"],
        cluster={"name": "prod", "timing": {"drain_ms": 120500}},
        drain_ms=20000,
    ),
    "IPv6": with_upstream({"ipv6": True}),
    "load test": with_upstream({"loadtest": {"enabled": True, "workers": 8, "resultsClaim": "reports"}}),
    "upstreams of hosts": {
        "mcpServers": {"files": {"url": "http://files/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}}},
        "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "files", "key": "token"}}}],
        "envFrom": [{"secretRef": {"name": "more"}}],
    },
    "everything else": with_upstream(
        {
            "image": {"tag": "1.2.3", "pullSecrets": [{"name": "registry"}], "pullPolicy": "Always"},
            "nodes": {
                "replicas": 7,
                "voters": 5,
                "storage": {"size": "100Gi", "className": "fast", "accessMode": "ReadWriteOncePod"},
                "spread": "DoNotSchedule",
                "resources": {"limits": {"memory": "4Gi"}},
                "nodeSelector": {"disk": "ssd"},
                "tolerations": [{"key": "mcp", "operator": "Exists"}],
                "affinity": {"podAntiAffinity": {}},
                "priorityClassName": "high",
                "podAnnotations": {"a": "b"},
                "podLabels": {"team": "mcp"},
            },
            "service": {"type": "LoadBalancer", "port": 80, "annotations": {"lb": "internal"}},
            "ports": {"http": 9000, "link": 9001, "gossip": 9001, "health": 9002},
            "drain": {"preStopSeconds": 0, "graceSeconds": 60},
            "networkPolicy": {"clients": [{"namespaceSelector": {"matchLabels": {"agents": "yes"}}}]},
            "disruptionBudget": {"enabled": False},
        },
        servers=[{"name": "all", "path": "/all"}],
        limits={"sessions_max": 5000000},
    ),
}

# Each with a part of the message that says what is wrong.
BAD = [
    ({}, "there is no upstream"),
    (with_upstream({"nodes": {"voters": 2}}), "/nodes/voters"),
    (with_upstream({"nodes": {"replicas": 1}}), "nodes.voters: 3 nodes cannot vote, there are 1"),
    (with_upstream({"nodes": {"replicas": 0}}), "/nodes/replicas"),
    (with_upstream({"nodes": {"storage": {"size": "much"}}}), "/nodes/storage/size"),
    (with_upstream({"nodes": {"storage": {"accessMode": "ReadWriteMany"}}}), "/nodes/storage/accessMode"),
    (with_upstream({"nodes": {"spread": "Always"}}), "/nodes/spread"),
    (with_upstream({"replicas": 3}), "additional properties 'replicas' not allowed"),
    (with_upstream({"edge": {"replica": 3}}), "'replica' not allowed"),
    (with_upstream({"edge": {"autoscaling": {"cpuPercent": 0}}}), "/edge/autoscaling/cpuPercent"),
    (
        with_upstream({"edge": {"autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 3}}}),
        "minReplicas is more than maxReplicas",
    ),
    (with_upstream({"service": {"type": "ExternalName"}}), "/service/type"),
    (with_upstream({"service": {"port": 0}}), "/service/port"),
    (with_upstream({"ports": {"link": 8808}}), "http, link and health must differ"),
    (with_upstream({"drain": {"graceSeconds": 1}}), "/drain/graceSeconds"),
    (with_upstream({"securityContext": {"user": 0}}), "/securityContext/user"),
    (with_upstream({"networkPolicy": {"clients": []}}), "/networkPolicy/clients"),
    (with_upstream({"keys": {"secret": "Not A Name"}}), "/keys/secret"),
    (with_upstream({"fullnameOverride": "x" * 41}), "/fullnameOverride"),
    (with_upstream({"image": {"digest": "sha256:abc"}}), "/image/digest"),
    (with_upstream({"image": {"tag": "a b"}}), "/image/tag"),
    (with_upstream({"log": {"format": "xml"}}), "/log/format"),
    (with_upstream({"env": [{"name": "A-B"}]}), "/env/0/name"),
    (with_upstream({"mcpServers": {"a": {}}}), "/mcpServers/a"),
    (with_upstream({"loadtest": {"workers": 0}}), "/loadtest/workers"),
    (with_upstream({"loadtest": {"targets": ["ftp://x"]}}), "/loadtest/targets/0"),
    # The configuration, by the schema of the program itself.
    (with_upstream(upstream=[]), "'upstream' not allowed"),
    (with_upstream(listen=[]), "'listen' not allowed"),
    (with_upstream(allow_remote=True), "'allow_remote' not allowed"),
    (with_upstream(data_dir="/x"), "'data_dir' not allowed"),
    (with_upstream(drain_ms="soon"), "/config/drain_ms"),
    (with_upstream(limits={"sessions": 5}), "'sessions' not allowed"),
    (with_upstream(cluster={"voters": ["a"]}), "'voters' not allowed"),
    (with_upstream(cluster={"timing": {"act_ms": -1}}), "/config/cluster/timing/act_ms"),
    ({"config": {"upstreams": [{"name": "a", "url": "http://x/", "era": "old"}]}}, "/config/upstreams/0/era"),
    ({"config": {"upstreams": [{"url": "http://x/"}]}}, "name"),
]
