"""A hub on this machine, which speaks as much of the protocol of huggingface.co as pushing and fetching one model needs.

Files come with their commit, as small ones do; large ones go to huggingface.co in chunks before, which the client does alone.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_" + "a" * 34


class Hub:
    """What is in its repositories.

    Attributes:
        commits: {repository: [(commit, {path: bytes})]}, the newest last.
        asked: What was asked, in order.
    """

    def __init__(self):
        self.commits, self.asked, self.url = {}, [], ""

    def files(self, name, revision="main"):
        commits = self.commits[name]
        return next((files for commit, files in reversed(commits) if revision in ("main", commit)), None)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args):
        pass

    def answer(self, status, content=b"", **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_all(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub, path = self.hub, self.path.partition("?")[0]
        hub.asked.append(f"{self.command} {path}")
        is_known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.command == "POST" and not is_known:
            return self.answer(401, {"error": "Invalid user token"})
        if path == "/api/validate-yaml":
            return self.answer(200, {"warnings": [], "errors": []})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if name.startswith("others/"):
                return self.answer(
                    403, {"error": "You don't have the rights"}, X_Error_Message="You don't have the rights"
                )
            is_new = name not in hub.commits
            hub.commits.setdefault(name, [("0" * 40, {})])
            return self.answer(200 if is_new else 409, {"url": f"{hub.url}/{name}"})
        if found := re.fullmatch(r"/api/models/([\w-]+/[\w-]+)/preupload/main", path):
            files = [
                {"path": o["path"], "uploadMode": "regular", "shouldIgnore": False} for o in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        if found := re.fullmatch(r"/api/models/([\w-]+/[\w-]+)/commit/main", path):
            files = dict(hub.commits[found[1]][-1][1])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = hashlib.sha1(body).hexdigest()
            hub.commits[found[1]].append((commit, files))
            url = f"{hub.url}/{found[1]}/commit/{commit}"
            return self.answer(200, {"commitUrl": url, "commitOid": commit, "hookOutput": "", "pullRequestUrl": None})
        if found := re.fullmatch(r"/([\w-]+/[\w-]+)/resolve/([\w.-]+)/(.+)", path):
            name, revision, file = found.groups()
            if name not in hub.commits:
                return self.answer(401, X_Error_Code="RepoNotFound", X_Error_Message="Invalid username or password.")
            files = hub.files(name, revision)
            if files is None:
                return self.answer(404, X_Error_Code="RevisionNotFound")
            if file not in files:
                return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=hub.commits[name][-1][0])
            commit = hub.commits[name][-1][0] if revision == "main" else revision
            etag = hashlib.sha256(files[file]).hexdigest()
            return self.answer(200, files[file], X_Repo_Commit=commit, ETag=f'"{etag}"')
        return self.answer(404, {"error": path})

    do_GET = do_HEAD = do_POST = handle_all


@contextmanager
def fake_hub():
    """A `Hub` that answers at its `url`."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
