"""A runner of somebody else's, in a thread of the test: it holds every run until told otherwise."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class HeldRunner:
    """Counts how often each job was started here, and lets go of all of them at once."""

    def __init__(self) -> None:
        self.starts: Counter[str] = Counter()
        self.may_finish = threading.Event()
        self.url = ""

    def answer(self, job_id: str) -> dict[str, Any]:
        if not self.may_finish.is_set():
            return {"status": "running", "poll_after": 0.05}
        return {"status": "done", "result": f"the result of {job_id}"}


@contextmanager
def held_runner() -> Iterator[HeldRunner]:
    runner = HeldRunner()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            runner.starts[body["job_id"]] += 1
            self._send(runner.answer(body["job_id"]))

        def do_GET(self) -> None:
            self._send(runner.answer(self.path.rpartition("/")[2]))

        def _send(self, document: dict[str, Any]) -> None:
            content = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing: the test tells what matters."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    runner.url = f"http://127.0.0.1:{server.server_address[1]}/run"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield runner
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
