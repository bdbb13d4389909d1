"""What the upstreams work on: files, a git repository and web pages, made fresh for every run."""

import http.server
import os
import subprocess
import threading

# Whatever a codec could trip over: line ends of all kinds, SSE field names, multi-byte characters.
AWKWARD = "plain\n\ndata: x\r\nevent: y\n\u2028 \u00e9 \U0001f6aa \"quoted\" \\ \t end\n"
PAGE = "A page about enfilades.\nSecond line: \u00fc.\n"
ROBOTS = "User-agent: *\nDisallow: /private\n"
COMMITS = [("first", "2026-01-02T03:04:05+00:00"), ("second", "2026-02-03T04:05:06+00:00")]


class World:
    """Paths and addresses of one run, all under `root`."""

    def __init__(self, root):
        self.root = root
        self.home = self._folder("home")
        self.files = self._folder("files")
        self.repository = self._folder("repository")
        self.memory = os.path.join(self._folder("memory"), "graph.jsonl")
        self._write("notes.txt", AWKWARD)
        self._write("large.txt", AWKWARD * 4096)
        self.commits = self._commit_all()
        self._pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        self.pages = f"http://127.0.0.1:{self._pages.server_port}"
        threading.Thread(target=self._pages.serve_forever, name="pages", daemon=True).start()

    def close(self):
        self._pages.shutdown()

    def file(self, name):
        return os.path.join(self.files, name)

    def forget_memory(self):
        """Empties the memory server's store, which it reads again on every call."""
        if os.path.exists(self.memory):
            os.remove(self.memory)

    def _folder(self, name):
        path = os.path.join(self.root, name)
        os.mkdir(path)
        return os.path.realpath(path)

    def _write(self, name, text):
        with open(self.file(name), "w", encoding="utf-8", newline="") as file:
            file.write(text)

    def _commit_all(self):
        """Two commits with fixed authors and dates; returns their ids, oldest first."""
        self._git("init", "--quiet", "--initial-branch=main")
        ids = []
        for message, date in COMMITS:
            with open(os.path.join(self.repository, "file.txt"), "a", encoding="utf-8") as file:
                file.write(f"{message}\n")
            self._git("add", "file.txt")
            self._git("commit", "--quiet", "--message", message, date=date)
            ids.append(self._git("rev-parse", "HEAD").strip())
        return ids

    def _git(self, *args, date=COMMITS[0][1]):
        who = {"NAME": "Ada", "EMAIL": "ada@example.org", "DATE": date}
        env = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
        env |= {"HOME": self.home, "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
        command = ["git", "-C", self.repository, *args]
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


class Pages(http.server.BaseHTTPRequestHandler):
    """The site that mcp-server-fetch visits."""

    PATHS = {"/page.txt": PAGE, "/private/page.txt": PAGE, "/robots.txt": ROBOTS}

    def do_GET(self):
        body = self.PATHS.get(self.path, "").encode()
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        """Quiet: the cell's own log says what was asked."""
