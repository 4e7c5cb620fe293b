import json
import re
import signal
import subprocess
import sys
from collections import namedtuple
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path

import pytest
from conftest import ROOT
from file_server import CONTENT, Served, files, serve, sha256, wait_until

from v_diffusion.shell import addresses
from v_diffusion.weights import download
from v_diffusion.weights.cards import Card, CheckpointError
from v_diffusion.weights.download import length
from v_diffusion.weights.store import fetch

FETCH = """
import json, sys
from pathlib import Path
from v_diffusion.weights.cards import Card
from v_diffusion.weights.store import fetch
print(fetch(Card(**json.loads(sys.argv[1])), Path(sys.argv[2])))
"""


def make_card(*urls: str, content: bytes = CONTENT, **fields) -> Card:
    card = Card("net", "diffusion", "net.pth", sha256(content), len(content), urls, shipped=False)
    return replace(card, **fields)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(download, "TRIES", 3)
    monkeypatch.setattr(download, "FIRST_WAIT", 0.001)


def start_fetch(card: Card, folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", FETCH, json.dumps(asdict(card)), str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def test_a_fetched_file_stands_alone(tmp_path, capsys):
    served = Served(CONTENT)
    with serve(net=served) as url:
        path = fetch(make_card(url + "net"), tmp_path / "new" / "folder")
        assert fetch(make_card(url + "net"), path.parent) == path
    assert path.read_bytes() == CONTENT and files(path.parent) == ["net.pth"]
    assert served.requests == [None]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("k, size", [(1, 30), (7, 300), (4096, 100_000), (33_334, 100_000)])
def test_cut_after_every_kth_byte(tmp_path, k, size):
    served = Served(CONTENT[:size], cut_every=k)
    with serve(net=served) as url:
        path = fetch(make_card(url + "net", content=CONTENT[:size]), tmp_path)
    assert path.read_bytes() == CONTENT[:size] and files(tmp_path) == ["net.pth"]
    assert served.requests == [None] + [f"bytes={i}-" for i in range(k, size, k)]


def test_stalled(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(addresses, "TIMEOUTS", (60, 1.0))
    served = Served(CONTENT, stall_after=60_000)
    with serve(net=served) as url:
        path = fetch(make_card(url + "net"), tmp_path)
    assert path.read_bytes() == CONTENT
    assert served.requests == [None, "bytes=60000-"]
    assert caplog.messages == ["net.pth: no answer in time; trying again"]


@pytest.mark.parametrize(
    "statuses, requests", [([500], 2), ([503, 429], 3), ([408, 500], 3)], ids=str
)
def test_a_passing_fault_is_waited_out(tmp_path, statuses, requests):
    served = Served(CONTENT, statuses=statuses)
    with serve(net=served) as url:
        assert fetch(make_card(url + "net"), tmp_path).read_bytes() == CONTENT
    assert len(served.requests) == requests


def test_waits_grow_and_end(tmp_path, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    monkeypatch.setattr(download, "TRIES", 4)
    monkeypatch.setattr(download, "FIRST_WAIT", 1.0)
    served = Served(CONTENT, statuses=[500] * 9)
    with serve(net=served) as url, pytest.raises(CheckpointError, match=r"answers 500 \(Internal"):
        fetch(make_card(url + "net"), tmp_path)
    assert waits == [1, 3, 7] and len(served.requests) == 4


PAGE = b"<html>Please log in</html>"
FAILURES = {
    "no such file": (Served(CONTENT, statuses=[404]), "the server answers 404 (Not Found)", 1),
    "forbidden": (Served(CONTENT, statuses=[403]), "the server answers 403 (Forbidden)", 1),
    "416 without a range": (Served(CONTENT, statuses=[416]), "the server answers 416 ", 1),
    "fault": (
        Served(CONTENT, statuses=[500] * 9),
        "the server answers 500 (Internal Server Error)",
        3,
    ),
    "page": (Served(PAGE, content_type="text/html"), "it answers with a web page", 1),
    "page in disguise": (Served(PAGE), f"it has SHA-256 {sha256(PAGE)}, and", 1),
    "length too short": (
        Served(CONTENT, declared=99_000),
        f"it has SHA-256 {sha256(CONTENT[:99_000])}, and net has SHA-256 {sha256(CONTENT)}",
        1,
    ),
    "no length, too much": (
        Served(CONTENT + b"!", declared=0),
        f"it has SHA-256 {sha256(CONTENT + b'!')}, and net has SHA-256 {sha256(CONTENT)}",
        1,
    ),
    "no length, too little": (
        Served(CONTENT[:-1], declared=0, ranges=False),
        f"it has SHA-256 {sha256(CONTENT[:-1])}, and net has SHA-256 {sha256(CONTENT)}",
        1,
    ),
    "wrong bytes": (
        Served(CONTENT[::-1]),
        f"it has SHA-256 {sha256(CONTENT[::-1])}, and net has SHA-256 {sha256(CONTENT)}",
        1,
    ),
    "silent": (Served(CONTENT, stall_after=0), "no answer in time", 3),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_is_not_the_file_gets_no_name(tmp_path, monkeypatch, name):
    served, reason, requests = FAILURES[name]
    if name == "silent":
        monkeypatch.setattr(addresses, "TIMEOUTS", (60, 0.2))
    served = replace(served, statuses=[*served.statuses], requests=[])
    with serve(net=served) as url, pytest.raises(CheckpointError) as failure:
        fetch(make_card(url + "net"), tmp_path)
    assert str(failure.value).startswith(f"can't fetch net.pth: {url}net: {reason}")
    assert str(failure.value).endswith(
        f"; try again later, put the file with SHA-256 {sha256(CONTENT)} into {tmp_path} yourself, "
        "or use --model emoji_64, which needs no download"
    )
    assert "\n" not in str(failure.value)
    assert not (tmp_path / "net.pth").exists() and not (tmp_path / "net.pth.lock").exists()
    assert len(served.requests) == requests
    if "SHA-256" in reason:
        assert files(tmp_path) == []


@pytest.mark.parametrize("fault", [{"statuses": [404]}, {"content": CONTENT[::-1]}], ids=list)
def test_a_mirror_stands_in(tmp_path, fault):
    first, mirror = replace(Served(CONTENT), **fault), Served(CONTENT)
    with serve(first=first, mirror=mirror) as url:
        card = make_card(url + "first", url + "mirror")
        assert fetch(card, tmp_path).read_bytes() == CONTENT
    assert first.requests == mirror.requests == [None] and files(tmp_path) == ["net.pth"]


def test_a_mirror_goes_on_where_the_first_address_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 1)
    first, mirror = Served(CONTENT, cut_every=40_000, ranges=False), Served(CONTENT)
    with serve(first=first, mirror=mirror) as url:
        card = make_card(url + "first", url + "mirror")
        assert fetch(card, tmp_path).read_bytes() == CONTENT
    assert mirror.requests == ["bytes=40000-"]


BEGUN = {
    "of another file": (Served(CONTENT), b"x" * 40_000, ["bytes=40000-", None]),
    "where ranges are ignored": (Served(CONTENT, ranges=False), b"x" * 40_000, ["bytes=40000-"]),
    "where a range is refused": (
        Served(CONTENT, statuses=[416]),
        CONTENT[:40_000],
        ["bytes=40000-", None],
    ),
    "whole": (Served(CONTENT), CONTENT, ["bytes=100000-"]),
}


@pytest.mark.parametrize("name", BEGUN)
def test_a_partial_file(tmp_path, name):
    """As a fetch that was killed leaves it."""
    served, begun, requests = BEGUN[name]
    (tmp_path / "net.pth.partial").write_bytes(begun)
    with serve(net=served) as url:
        assert fetch(make_card(url + "net"), tmp_path).read_bytes() == CONTENT
    assert served.requests == requests and files(tmp_path) == ["net.pth"]


def test_another_file_under_the_name_is_an_error_and_stays(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"mine")
    with pytest.raises(CheckpointError) as failure:
        fetch(make_card("http://127.0.0.1:9/net"), tmp_path)
    assert str(failure.value) == (
        f"{tmp_path}/net.pth is not the right file: it has SHA-256 {sha256(b'mine')}, and "
        f"net has SHA-256 {sha256(CONTENT)}; remove it and fetch it again"
    )
    assert (tmp_path / "net.pth").read_bytes() == b"mine"


def test_too_little_disk_is_known_before_the_first_byte(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(0, 0, 99_999)
    monkeypatch.setattr("v_diffusion.weights.download.shutil.disk_usage", lambda folder: usage)
    served = Served(CONTENT)
    with serve(net=served) as url, pytest.raises(CheckpointError) as failure:
        fetch(make_card(url + "net"), tmp_path)
    assert str(failure.value) == (
        f"can't write net.pth to {tmp_path}: it needs 100 kB more and 100 kB are free"
    )
    assert served.requests == [] and files(tmp_path) == []


def test_two_processes_fetch_a_file_once(tmp_path):
    served = Served(CONTENT, pause=0.05, piece=5000)
    with serve(net=served) as url:
        processes = [start_fetch(make_card(url + "net"), tmp_path) for _ in range(2)]
        outputs = [process.communicate(timeout=600)[0].decode() for process in processes]
    assert outputs == [f"{tmp_path}/net.pth\n"] * 2
    assert served.requests == [None] and files(tmp_path) == ["net.pth"]
    assert (tmp_path / "net.pth").read_bytes() == CONTENT


def test_killed_in_the_middle_and_started_again(tmp_path):
    served = Served(CONTENT, piece=1000, stall_after=6000)
    partial = tmp_path / "net.pth.partial"
    with serve(net=served) as url:
        card = make_card(url + "net")
        process = start_fetch(card, tmp_path)
        wait_until(lambda: length(partial) >= 5000)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert files(tmp_path) == ["net.pth.lock", "net.pth.partial"]
        size = length(partial)
        assert 5000 <= size < 100_000
        served.stall_after = None
        assert fetch(card, tmp_path).read_bytes() == CONTENT
    assert served.requests == [None, f"bytes={size}-"] and files(tmp_path) == ["net.pth"]


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_bar_on_a_terminal_only(tmp_path, monkeypatch, terminal):
    class Stderr(StringIO):
        def isatty(self) -> bool:
            return terminal

    stderr = Stderr()
    monkeypatch.setattr(sys, "stderr", stderr)
    with serve(net=Served(CONTENT, pause=0.12, piece=25_000)) as url:
        fetch(make_card(url + "net"), tmp_path)
    bars = re.findall(
        r"net\.pth: +\d+%\|.*?\| [\d.]+k/100k \[\d\d:\d\d<.*?B/s\]", stderr.getvalue()
    )
    assert bool(bars) == terminal
