"""A stand-in of Hugging Face on this machine: the part of its HTTP interface that its client uses.

Named a stand-in because the real one cannot be reached from tests. It serves the files of one model
and takes commits of folders, large files through the LFS protocol. ``refuses`` makes it answer 403.
"""

import base64
import json
import re
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40


class HubStandIn(ThreadingHTTPServer):
    """``files`` of any repository that is asked for; ``uploaded`` has what commits brought."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.uploaded, self.objects = {}, {}, {}
        self.created, self.asked, self.refuses = [], [], False

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running_hub():
    hub = HubStandIn()
    thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._file()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        if self.server.refuses:
            self._json({"error": "You have no right to do this"}, 403)
        elif "/resolve/" in path:
            self._file()
        elif "/tree/" in path:
            self._json([self._entry(name) for name in self.server.files])
        elif re.match(r"/api/models/.+/revision/", path):
            names = [{"rfilename": name} for name in self.server.files]
            self._json({"id": path.split("/")[3], "sha": COMMIT, "siblings": names})
        else:
            self._json({"error": "no such thing"}, 404)

    def do_PUT(self):
        content = self._body()
        self.server.objects[sha256(content).hexdigest()] = content
        self._json({})

    def do_POST(self):
        body, hub = self._body(), self.server
        if hub.refuses:
            self._json({"error": "You have no right to do this"}, 403)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            hub.created.append(asked)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self._json({"url": f"{hub.address}/{name}", "id": name})
        elif "/preupload/" in self.path:
            self._json({"files": [self._mode(file) for file in json.loads(body)["files"]]})
        elif self.path.endswith("/objects/batch"):
            objects = [self._place(each) for each in json.loads(body)["objects"]]
            self._json({"transfer": "basic", "objects": objects})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                self._take(line["key"], line["value"])
            url = f"{hub.address}/me/mine/commit/{COMMIT}"
            self._json({"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})
        else:
            self._json({"errors": [], "warnings": []})

    def _take(self, key, value):
        if key == "file":
            self.server.uploaded[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            self.server.uploaded[value["path"]] = self.server.objects[value["oid"]]

    def _entry(self, name):
        content = self.server.files[name]
        return {
            "type": "file",
            "path": name,
            "size": len(content),
            "oid": sha256(content).hexdigest(),
        }

    def _mode(self, file):
        mode = "lfs" if file["path"].endswith(".safetensors") else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}

    def _place(self, each):
        upload = {"href": f"{self.server.address}/objects/{each['oid']}", "header": {}}
        return {"oid": each["oid"], "size": each["size"], "actions": {"upload": upload}}

    def _file(self):
        name = unquote(urlsplit(self.path).path).split("/resolve/")[1].partition("/")[2]
        if name not in self.server.files:
            self._json({"error": "Entry not found"}, 404)
            return
        content = self.server.files[name]
        headers = {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        self._answer(content, 200, headers)

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _json(self, content, status=200):
        self._answer(json.dumps(content).encode(), status, {"Content-Type": "application/json"})

    def _answer(self, content, status, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
