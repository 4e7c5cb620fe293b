"""Addresses as the scripts are given them: the exit status."""

from subprocess import CompletedProcess

import pytest
import script
from file_server import Served, serve

QUICK = ("--model", "emoji_64", "--steps", "1", "-cs", "0")
INIT = (script.ROOT / "tests" / "data" / "later" / "init.png").read_bytes()
CLOSED = "http://127.0.0.1:1/a.png"  # nobody listens there, and nobody but root could


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")


def drawn(folder, *args: object, name: str = "clip_sample") -> CompletedProcess:
    return script.start(*args, cwd=folder, script=f"{name}.py").wait()


@pytest.mark.parametrize(
    "served, status",
    [
        (Served(INIT, statuses=[503]), 1),
        (Served(INIT, cut_every=100), 1),
        (Served(INIT, statuses=[404]), 2),
        (Served(INIT, statuses=[401]), 2),
        (Served(b"no picture"), 2),
        (Served(b"", declared=2**40, stall_after=0), 2),
        (None, 1),
    ],
)
def test_who_may_have_more_luck_is_told_by_the_status(tmp_path, served, status):
    with serve(**{"a.png": served or Served(b"")}) as url:
        address = f"{url}a.png" if served else CLOSED
        done = drawn(tmp_path, *QUICK, "--images", address)
        assert (done.returncode, done.stdout) == (status, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"clip_sample.py: image prompt {address}: ")
    assert list(tmp_path.iterdir()) == []


def test_of_pictures_to_start_from_too(tmp_path):
    done = drawn(tmp_path, *QUICK, "a", "--init", CLOSED)
    assert done.returncode == 1 and "init image http://127.0.0.1:1/a.png: can't be f" in done.stderr
    done = drawn(tmp_path, *QUICK[:4], CLOSED, "a", name="cfg_modify_image")
    assert done.returncode == 1 and "init image http://127.0.0.1:1/a.png: can't be f" in done.stderr
    done = drawn(tmp_path, *QUICK, "a", "--init", "http://[::1/a.png")
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_a_job_files_status_is_that_of_its_worst_line(tmp_path):
    lines = [f'{{"images": ["{CLOSED}"]}}', '{"images": ["none.png"]}', "a"]
    (tmp_path / "jobs").write_text("\n".join(lines))
    done = drawn(tmp_path, *QUICK, "--jobs", "jobs")
    assert (done.returncode, done.stdout) == (1, "out_00002.png\n")
    assert done.stderr.splitlines()[-1] == "clip_sample.py: not drawn: jobs:1, jobs:2"
    (tmp_path / "jobs").write_text("\n".join(lines[1:]))
    assert drawn(tmp_path, *QUICK, "--jobs", "jobs").returncode == 2
