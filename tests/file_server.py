"""A small HTTP server on 127.0.0.1 that serves files as badly as it is told to."""

import hashlib
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

CONTENT = random.Random(0).randbytes(100_000)


@dataclass
class Served:
    """A file and how it is served.

    Args:
        content: its bytes.
        ranges: whether Range is honoured.
        statuses: answered to the first requests, in place of the file.
        cut_every: the connection is closed after so many bytes of a body.
        stall_after: nothing more is sent after so many bytes of a body.
        pause: seconds between pieces of `piece` bytes.
        declared: the length to declare, if not the true one. With 0 none is declared.
        content_type: as it says.
        authorization: what a request has to say, or it is refused with 401.
        requests: what was asked: the Range header of each request.
    """

    content: bytes
    ranges: bool = True
    statuses: list[int] = field(default_factory=list)
    cut_every: int | None = None
    stall_after: int | None = None
    pause: float = 0.0
    piece: int = 1 << 16
    declared: int | None = None
    content_type: str = "application/octet-stream"
    authorization: str | None = None
    requests: list[str | None] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    files: dict[str, Served]
    stopped: threading.Event

    def do_GET(self) -> None:
        served = self.files.get(self.path)
        if served is None:
            return self.refuse(404)
        asked = self.headers["Range"]
        served.requests.append(asked)
        if served.authorization not in (None, self.headers["Authorization"]):
            return self.refuse(401)
        if served.statuses:
            return self.refuse(served.statuses.pop(0))
        start, size = 0, len(served.content)
        if asked and served.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= size:
                return self.refuse(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            self.send_response(200)
        if served.declared != 0:
            self.send_header("Content-Length", str((served.declared or size) - start))
        self.send_header("Content-Type", served.content_type)
        self.end_headers()
        self.send_body(served, served.content[start:])

    def refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_body(self, served: Served, body: bytes) -> None:
        end = min(n for n in (served.cut_every, served.stall_after, len(body)) if n is not None)
        try:
            for i in range(0, end, served.piece):
                self.wfile.write(body[i : min(i + served.piece, end)])
                if self.stopped.wait(served.pause):
                    return
            if served.stall_after is not None and end < len(body):
                self.stopped.wait(600)
        except ConnectionError:  # the client is gone
            pass
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve(**files: Served) -> Iterator[str]:
    """Serves each file at "/<its name>", past any proxy, and gives the address of "/"."""
    stopped = threading.Event()
    paths = {f"/{name}": served for name, served in files.items()}
    handler = type("BoundHandler", (Handler,), {"files": paths, "stopped": stopped})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        with mock.patch.dict(os.environ, NO_PROXY="127.0.0.1"):
            yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


def wait_until(condition: Callable[[], bool], seconds: float = 600.0) -> None:
    """Waits for something that another process or thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files(folder: Path) -> list[str]:
    """The names in a folder."""
    return sorted(path.name for path in folder.iterdir())
