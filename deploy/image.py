#!/usr/bin/env python3
"""Builds the image of deploy/Containerfile without a daemon: deploy/image.py PROGRAMS OUT.tar

PROGRAMS is the folder with what cargo built. OUT.tar is an OCI layout, which `podman load`, `skopeo copy oci-archive:`
and registries' clients take. Equal inputs give equal bytes: entries are sorted, owned by root, and as old as
SOURCE_DATE_EPOCH (0 when unset).
"""

import gzip
import hashlib
import io
import json
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = pathlib.Path(__file__).parent
EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def instructions():
    """The instructions after the last FROM, as (name, rest)."""
    text = re.sub(r"\\\n", " ", (HERE / "Containerfile").read_text())
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    begin = max(index for index, line in enumerate(lines) if line[0] == "FROM")
    return [(line[0], line[1].strip()) for line in lines[begin + 1 :]]


def settings():
    """What the Containerfile says of a container, as the image's configuration has it."""
    config = {}
    for name, rest in instructions():
        if name == "USER":
            config["User"] = rest
        elif name == "WORKDIR":
            config["WorkingDir"] = rest
        elif name == "STOPSIGNAL":
            config["StopSignal"] = rest
        elif name == "ENTRYPOINT":
            config["Entrypoint"] = json.loads(rest)
        elif name == "ENV":
            config.setdefault("Env", []).extend(shlex.split(rest))
        elif name == "EXPOSE":
            config["ExposedPorts"] = {port: {} for port in rest.split()}
        elif name == "LABEL":
            config.setdefault("Labels", {}).update(pair.split("=", 1) for pair in shlex.split(rest))
        elif (name, rest) != ("COPY", "--from=build /rootfs /"):
            sys.exit(f"image.py: {name} {rest}: the Containerfile has become more than this program knows")
    return config


def packed(folder):
    """A folder as a tar file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(pathlib.Path(folder).rglob("*")):
            entry = tar.gettarinfo(path, path.relative_to(folder).as_posix())
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = EPOCH
            with open(path, "rb") if entry.isreg() else io.BytesIO() as content:
                tar.addfile(entry, content if entry.isreg() else None)
    return out.getvalue()


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Layout:
    """A folder as OCI says."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        (self.folder / "blobs" / "sha256").mkdir(parents=True)

    def add(self, content, kind):
        """Adds a blob; gives its descriptor."""
        if not isinstance(content, bytes):
            content = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
        name = digest(content)
        (self.folder / "blobs" / "sha256" / name.removeprefix("sha256:")).write_bytes(content)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": name, "size": len(content)}

    def write(self, name, value):
        (self.folder / name).write_text(json.dumps(value, sort_keys=True))


def build(programs, out):
    """Writes the image; prints what it is."""
    with tempfile.TemporaryDirectory(prefix="enfilade-image-") as work:
        root = pathlib.Path(work) / "rootfs"
        subprocess.run([HERE / "rootfs.sh", programs, root], check=True)
        layer = packed(root)
        layout = Layout(pathlib.Path(work) / "layout")
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH))
        config = {
            "created": created,
            "os": "linux",
            "architecture": ARCHITECTURES[platform.machine()],
            "config": settings(),
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
            "history": [{"created": created, "created_by": "deploy/image.py"}],
        }
        compressed = layout.add(gzip.compress(layer, 9, mtime=0), "layer.v1.tar+gzip")
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": layout.add(config, "config.v1+json"),
            "layers": [compressed],
        }
        image = layout.add(manifest, "manifest.v1+json")
        named = {**image, "annotations": {"org.opencontainers.image.ref.name": "enfilade"}}
        layout.write("index.json", {"schemaVersion": 2, "manifests": [named]})
        layout.write("oci-layout", {"imageLayoutVersion": "1.0.0"})
        pathlib.Path(out).write_bytes(packed(layout.folder))
        files = sum(path.is_file() for path in root.rglob("*"))
    sizes = f"{len(layer) / 2**20:.1f} MiB, {compressed['size'] / 2**20:.1f} MiB compressed"
    print(f"{out}: {image['digest']}, {files} files, {sizes}")
    return image["digest"]


if __name__ == "__main__":
    build(*sys.argv[1:])
