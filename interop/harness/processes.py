"""Processes that cannot outlive the run: each in its own group, bounded in time, counted at the end.

Every process carries RUN_MARK in its environment, so what escaped its group is still found.
"""

import os
import queue
import re
import signal
import subprocess
import threading
import time
import uuid

RUN_MARK = f"INTEROP_RUN={uuid.uuid4()}"
READY = re.compile(r"ready (http://\S+)")


def environment(extra):
    """The environment of every process of the run; `extra` wins."""
    name, value = RUN_MARK.split("=")
    return os.environ | {name: value} | extra


def run_bounded(command, *, cwd, env, log, seconds):
    """Runs to the end or to the limit; returns (exit code or None when it took too long, stdout)."""
    with open(log, "wb") as stderr:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        out, _ = process.communicate(timeout=seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        kill_group(process)
        out, _ = process.communicate()
        code = None
    kill_group(process)
    return code, out.decode("utf-8", "replace")


def kill_group(process):
    """Ends whatever is left of a process's group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Server:
    """A process that announces its endpoints with lines `ready URL` on stdout or stderr."""

    def __init__(self, command, *, cwd, env, log):
        self.log = log
        self._urls = queue.Queue()
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"log {log}", daemon=True)
        self._reader.start()

    def _read(self):
        with open(self.log, "wb") as log:
            for line in self._process.stdout:
                log.write(line)
                log.flush()
                found = READY.match(line.decode("utf-8", "replace"))
                if found:
                    self._urls.put(found.group(1))
        self._urls.put(None)

    def ready(self, count, seconds):
        """The first `count` announced URLs."""
        until = time.monotonic() + seconds
        urls = []
        while len(urls) < count:
            try:
                url = self._urls.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise RuntimeError(f"not ready after {seconds} s: see {self.log}") from None
            if url is None:
                raise RuntimeError(f"ended before it was ready: see {self.log}")
            urls.append(url)
        return urls

    def stop(self, seconds):
        """Asks it to stop; returns a reproach when it does not do so in order and in time."""
        early = self._process.poll()
        if early is not None:
            return f"ended by itself with exit code {early}: see {self.log}"
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            kill_group(self._process)
            return f"did not stop within {seconds} s of SIGTERM: see {self.log}"
        return None if code == 0 else f"stopped with exit code {code}: see {self.log}"


def reap_leftovers(seconds):
    """Gives what still carries this run's mark that long to end, kills the rest; returns its command lines."""
    until = time.monotonic() + seconds
    while marked_processes() and time.monotonic() < until:
        time.sleep(0.05)
    left = marked_processes()
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return sorted(left.values())


def marked_processes():
    """Every running process of this run but the runner itself: pid -> command line."""
    mark = RUN_MARK.encode()
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                marked = mark in file.read().split(b"\0")
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue  # it ended meanwhile, or is not ours to see
        if marked and command:
            found[int(entry)] = command
    return found
