#!/usr/bin/env python3
"""Starts an image from its own root file system: deploy/check.py IMAGE.tar

As a container would be: another user than root, without rights, everything read only but /tmp and /var/lib/enfilade.
Three nodes are started in it; health is asked and a tool is called. Needs unshare and mount (util-linux), and either
root or user namespaces.
"""

import ctypes
import gzip
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "helm" / "check"))
import mcp  # noqa: E402

# The first argument of this program where it is in the image's namespaces already.
ENTER = "--enter"

# Numbers of prctl(2).
CAPBSET_DROP, SET_NO_NEW_PRIVS, CAP_AMBIENT, CLEAR_ALL = 24, 38, 47, 4


def enter(root, user, *command):
    """What a container's runtime does: mounts, then the program without rights. Runs in namespaces of its own."""
    mount = lambda *args: subprocess.run(["mount", *args], check=True)  # noqa: E731
    mount("--bind", root, root)
    for place in ("dev", "proc"):
        mount("--rbind", f"/{place}", f"{root}/{place}")
    for place in ("tmp", "var/lib/enfilade"):
        mount("-t", "tmpfs", "-o", "mode=1777,size=256m", "tmpfs", f"{root}/{place}")
    mount("-o", "remount,bind,ro", root)
    os.chroot(root)
    os.chdir("/var/lib/enfilade")
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    last = int(pathlib.Path("/proc/sys/kernel/cap_last_cap").read_text())
    for wanted in [(CAPBSET_DROP, cap) for cap in range(last + 1)] + [(CAP_AMBIENT, CLEAR_ALL), (SET_NO_NEW_PRIVS, 1)]:
        if prctl(*wanted, 0, 0, 0) != 0:
            sys.exit(f"prctl {wanted}: {os.strerror(ctypes.get_errno())}")
    uid, gid = map(int, user.split(":"))
    if os.geteuid() != uid:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    os.execv(command[0], command)


class Image:
    """An image, unpacked."""

    def __init__(self, archive, folder):
        with tarfile.open(archive) as layout:
            self.layout = layout
            index = self.read("index.json")
            manifest = self.blob(index["manifests"][0])
            self.config = self.blob(manifest["config"])["config"]
            self.root = pathlib.Path(folder) / "root"
            self.root.mkdir()
            self.root.chmod(0o755)
            for layer in manifest["layers"]:
                content = gzip.decompress(self.raw(layer))
                with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                    # All that our own image holds, with its modes.
                    tar.extraction_filter = lambda member, _: member
                    tar.extractall(self.root)

    def read(self, name):
        return json.load(self.layout.extractfile(name))

    def raw(self, descriptor):
        return self.layout.extractfile("blobs/" + descriptor["digest"].replace(":", "/")).read()

    def blob(self, descriptor):
        return json.loads(self.raw(descriptor))

    def start(self, *args):
        """Starts the image's program with arguments."""
        user, group = self.config["User"].split(":")
        unshare = ["unshare", "--mount", "--propagation=private"]
        if os.geteuid() != 0:
            unshare += ["--user", f"--map-user={user}", f"--map-group={group}", "--keep-caps"]
        inside = [sys.executable, __file__, ENTER, str(self.root), self.config["User"]]
        command = [*unshare, *inside, *self.config["Entrypoint"], *args]
        env = dict(pair.split("=", 1) for pair in self.config["Env"])
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)

    def run(self, *args):
        process = self.start(*args)
        out, error = process.communicate(timeout=60)
        return process.returncode, out + error


def without_rights(pid, user):
    """The process runs as the image's user and may do nothing that others may not."""
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    uids, gids = status["Uid"].split(), status["Gid"].split()
    if os.geteuid() == 0:
        assert {f"{uid}:{gid}" for uid, gid in zip(uids, gids)} == {user}, (uids, gids)
    assert "0" not in uids, uids
    assert all(int(status[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapBnd")), status
    assert status["NoNewPrivs"].strip() == "1", status["NoNewPrivs"]


def read_only(image):
    """Nothing can be written but where it is meant to be."""
    code, said = image.run("keys", "--out", "/etc/others")
    assert code == 1 and "Read-only file system" in said, (code, said)
    for place in ("/tmp/keys", "/var/lib/enfilade/keys"):
        code, said = image.run("keys", "--out", place)
        assert code == 0, (place, code, said)


def mounted_keys(image):
    """Keys that root owns and the program's group may read are taken, as Kubernetes mounts them: through links."""
    if os.geteuid() != 0:
        return "mounted keys were not tried: only root can give files to a group"
    keys, group = image.root / "etc" / "keys", int(image.config["User"].split(":")[1])
    subprocess.run([image.root / "usr/bin/enfilade", "keys", "--out", keys / "..data"], check=True)
    keys.chmod(0o755)
    (keys / "..data").chmod(0o755)
    for mode, expected in ((0o440, "no connection"), (0o444, "can be read by others")):
        for file in (keys / "..data").iterdir():
            os.chown(file, 0, group)
            file.chmod(mode)
            if not (keys / file.name).is_symlink():
                (keys / file.name).symlink_to(f"..data/{file.name}")
        code, said = image.run("config", "history", "--node", "127.0.0.1:1", "--keys", "/etc/keys")
        assert code == 1 and expected in said, (oct(mode), code, said)
    return "keys as Kubernetes mounts them are taken, and refused when others can read them"


def serves(image):
    """Three nodes of one process serve clients; they end in order."""
    args = ["--log", "warn", "up", "--nodes", "3", "--listen", "127.0.0.1:0", "--data-dir", "/var/lib/enfilade/d"]
    process = image.start(*args)
    try:
        urls = [process.stdout.readline().strip().removeprefix("ready ") for _ in range(3)]
        assert all(urls), process.communicate(timeout=60)
        without_rights(process.pid, image.config["User"])
        addresses = [(host, int(port)) for host, port in (url.split("/")[2].split(":") for url in urls)]
        for address in addresses:
            status, _, text = mcp.ask(address, "GET", "/healthz", "127.0.0.1")
            assert (status, text) == (200, "ok"), (status, text)
        # The first of the demo's two upstreams; several have their names in front.
        session = mcp.Session(addresses[0], "127.0.0.1")
        for address in addresses:
            text = session.call(address, "everything__echo", {"text": "from a scratch image"})
            assert text == "from a scratch image", text
    finally:
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=120)
    assert process.returncode == 0, (process.returncode, error)


def main():
    with tempfile.TemporaryDirectory(prefix="enfilade-image-") as folder:
        os.chmod(folder, 0o755)
        image = Image(sys.argv[1], folder)
        code, said = image.run("--version")
        assert code == 0, said
        programs = sorted(path.name for path in (image.root / "usr" / "bin").iterdir())
        mounted = mounted_keys(image)
        read_only(image)
        serves(image)
    user, programs = image.config["User"], ", ".join(programs)
    print(f"started from its own root file system as {user}, without rights, read only: {said.strip()}")
    print(f"three nodes served /healthz and tools/call; {mounted}; programs: {programs}")


if __name__ == "__main__":
    if sys.argv[1] == ENTER:
        enter(*sys.argv[2:])
    main()
