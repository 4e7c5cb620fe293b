"""What addresses answer, and what is made of it."""

import gzip
import http.server
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from file_server import Served, serve
from picture_files import LEVELS, PICTURE, UNKNOWN, why

from v_diffusion.images.decode import open_picture
from v_diffusion.shell import addresses
from v_diffusion.shell.addresses import AddressError, fetch

WRONG = "check the address, or save it and name the file"
LATER = "check the address, or try again later"


@pytest.mark.parametrize("declared", [None, 0])
def test_an_address_gives_the_picture(declared):
    with serve(picture=Served(PICTURE, declared=declared)) as url:
        assert np.array_equal(open_picture(url + "picture")[0], LEVELS)
        address = url.replace("http", "HTTP") + "picture"
        assert fetch(address) == PICTURE


def test_fetch_gives_a_web_page_but_open_picture_says_that_it_is_one():
    page = b"<!doctype html><title>A cat</title>"
    with serve(cat=Served(page, content_type="text/html")) as url:
        assert why(url + "cat") == UNKNOWN
        assert fetch(url + "cat") == page


@pytest.mark.parametrize(
    "status, expected",
    [
        (404, f"the server answers 404 (Not Found); {WRONG}"),
        (410, f"the server answers 410 (Gone); {WRONG}"),
        (403, f"the server answers 403 (Forbidden); {WRONG}"),
        (429, f"the server answers 429 (Too Many Requests); {LATER}"),
        (500, f"the server answers 500 (Internal Server Error); {LATER}"),
        (599, f"the server answers 599; {LATER}"),
    ],
)
def test_bad_answers(status, expected):
    with serve(a=Served(PICTURE, statuses=[status])) as url:
        assert why(url + "a", again="later" in expected) == expected


def test_a_server_that_says_nothing():
    with serve(a=Served(PICTURE, stall_after=50)) as url:
        said = why(url + "a", again=True, timeouts=(60, 0.3))
        assert said == f"no answer in time; {LATER}"


def test_a_body_that_dribbles():
    with serve(a=Served(PICTURE, piece=1, pause=0.02)) as url:
        said = why(url + "a", again=True, patience=0.3)
        assert said == f"it has not come within 0.3 s; {LATER}"


def test_a_connection_that_breaks():
    with serve(a=Served(PICTURE, cut_every=100)) as url:
        assert why(url + "a", again=True) == f"the connection broke before the end; {LATER}"


TOO_LONG = f"it is longer than 64 MiB; {WRONG}"


def test_too_long_a_body_that_does_not_say_so():
    content = bytes(2**26 + 1)
    with serve(a=Served(content, declared=0), b=Served(content[:-1], declared=0)) as url:
        assert why(url + "a") == TOO_LONG
        assert why(url + "b") == UNKNOWN


def test_fetch_takes_its_limit(monkeypatch):
    with serve(a=Served(b"abc"), b=Served(b"abc", declared=0)) as url:
        monkeypatch.setattr(addresses, "STREAM_LIMIT", 3)
        assert fetch(url + "a") == b"abc"
        monkeypatch.setattr(addresses, "STREAM_LIMIT", 2)
        for name in "ab":
            with pytest.raises(AddressError, match="it is longer than "):
                fetch(url + name)


class Redirects(http.server.BaseHTTPRequestHandler):
    """/3 redirects to /2 and so on to /0, which is the picture; / redirects to itself."""

    endless_bodies = False
    body = PICTURE
    encoding = "identity"

    def do_GET(self) -> None:
        left = self.path[1:]
        if left == "0":
            self.send_response(200)
            self.send_header("Content-Encoding", self.encoding)
            self.end_headers()
            self.wfile.write(self.body)
            return
        self.send_response(302)
        self.send_header("Location", f"/{int(left) - 1}" if left else "/")
        self.end_headers()
        try:
            while self.endless_bodies:
                self.wfile.write(bytes(1 << 16))
        except ConnectionError:
            pass

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def redirects(**attributes: object) -> Iterator[str]:
    handler = type("BoundRedirects", (Redirects,), attributes)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_the_body_of_a_redirect_is_not_read(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with redirects(endless_bodies=True) as url:
        assert np.array_equal(open_picture(url + "2")[0], LEVELS)


def test_the_limit_holds_for_what_is_compressed(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    body = gzip.compress(PICTURE + bytes(10**6))
    with redirects(body=body, encoding="gzip") as url:
        assert fetch(url + "0") == PICTURE + bytes(10**6)
        monkeypatch.setattr(addresses, "STREAM_LIMIT", 100_000)
        with pytest.raises(AddressError, match="it is longer than "):
            fetch(url + "0")
    with redirects(body=PICTURE, encoding="gzip") as url:
        said = f"the connection broke before the end; {LATER}"
        assert why(url + "0", again=True) == said


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/x.png", "S3://bucket/x.png"])
def test_other_addresses(address):
    said = f"only http, https and file addresses can be opened; {WRONG}"
    assert why(address) == said


@contextmanager
def listening(answer: Callable[[socket.socket], None] | None) -> Iterator[str]:
    """The address of a socket that answers its first connection, or is full already."""
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        thread = None
        if answer is None:
            for client in (first, second):
                client.setblocking(False)
                client.connect_ex(address)
        else:
            thread = threading.Thread(target=lambda: answer(server.accept()[0]))
            thread.start()
        yield f"http://127.0.0.1:{address[1]}/a.png"
        if thread:
            thread.join()


def test_something_that_does_not_speak_http(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"220 mail.example \x1b[31mESMTP\r\n")

    with listening(answer) as url:
        assert why(url, again=True) == f"220 mail.example ?[31mESMTP; {LATER}"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")
def test_no_connection_comes_about(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with listening(None) as url:
        expected = f"no connection in time; {LATER}"
        assert why(url, again=True, timeouts=(0.3, 60)) == expected


def test_nobody_listens(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.png"
        expected = f"Connection refused; {LATER}"
        assert why(url, again=True) == expected


def test_an_unknown_host(monkeypatch):
    def look_up(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    expected = f"Name or service not known; {LATER}"
    assert why("http://nobody.invalid/a.png", again=True) == expected


@pytest.mark.parametrize(
    "address", ["http://", "http:///a.png", "http://[::1/a", "http://a:99999/", "https://.a/"]
)
def test_addresses_that_are_none(address):
    assert why(address).endswith(f"; {WRONG}")


# What callers rely on


def test_a_failed_address_is_an_oserror_and_a_missing_file_stays_one(tmp_path):
    with serve() as url, pytest.raises(OSError, match="404"):
        fetch(url + "none")
    with pytest.raises(FileNotFoundError):
        fetch(tmp_path / "none")
