"""A stand-in for servers that speak OpenAI's protocol: a real HTTP server, in the test's process,
that is slow, fails, breaks off and changes its model as a test tells it to.
"""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.evaluator.conftest import program


class ScriptedServer:
    """Answers with the right program of the sum suite.

    ``behave(number, body)`` gives what a request, numbered from 0, gets instead: a status, a status
    with headers, ``close`` (half an answer), ``torn`` (no JSON), or seconds to be late by.
    """

    def __init__(self):
        self.name, self.root, self.says, self.reason = "mine", "/models/a", "mine", "stop"
        self.version = "1.2"
        self.behave = lambda number, body: None
        self.requests, self.answered, self.headers, self.paths = [], [], [], []
        self.times, self.running, self.most, self.port = [], 0, 0, 0
        self.lock = threading.Lock()
        self.start()

    def start(self):
        """Listen, on the same port as before."""
        handler = type("Handler", (_Handler,), {"script": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.http.daemon_threads = True
        self.port = self.http.server_port
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        """Be gone: connections are refused."""
        self.http.shutdown()
        self.http.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def models(self):
        card = {"id": self.name, "root": self.root, "created": time.time(), "owned_by": "test"}
        return {"object": "list", "data": [card]}

    def answer(self, body):
        asked = str(body.get("messages") or body["prompt"])
        text = program(int(found[1]), "+") if (found := re.search(r"a \+ (\d)", asked)) else "?"
        said = {"message": {"role": "assistant", "content": text}}
        choice = {**(said if "messages" in body else {"text": text}), "finish_reason": self.reason}
        named = {"model": self.says, "system_fingerprint": "fp"}
        return {**named, "choices": [choice], "usage": {"completion_tokens": 14}}


class _Handler(BaseHTTPRequestHandler):
    script = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        version = {"version": self.script.version}
        content = {"/v1/models": self.script.models(), "/version": version}.get(self.path)
        self.reply(404 if content is None else 200, json.dumps(content).encode())

    def do_POST(self):
        script = self.script
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with script.lock:
            number = len(script.requests)
            script.requests.append(body)
            script.headers.append(dict(self.headers))
            script.paths.append(self.path)
            script.times.append(time.monotonic())
            script.running += 1
            script.most = max(script.most, script.running)
        self.act(script.behave(number, body), body)

    def act(self, action, body):
        content = json.dumps(self.script.answer(body)).encode()
        if isinstance(action, float):
            time.sleep(action)
            action = None
        with self.script.lock:  # an answered client may ask again before this ends
            self.script.running -= 1
        if action == "close":
            self.reply(200, content, sent=content[: len(content) // 2])
        elif action == "torn":
            self.reply(200, content[: len(content) // 2])
        elif action is not None:
            status, headers = action if isinstance(action, tuple) else (action, {})
            said = f"no: {self.headers.get('Authorization')}".encode()
            self.reply(status, said, headers=headers)
        else:
            if self.reply(200, content):
                self.script.answered.append(body["seed"])

    def reply(self, status, content, sent=None, headers=()):
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            for name, value in dict(headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content if sent is None else sent)
        except OSError:  # who asked has given up
            return False
        return True
