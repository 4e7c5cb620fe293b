"""Addresses as the scripts are given them: the exit status, and what is kept to oneself."""

import shlex
from base64 import b64encode
from subprocess import CompletedProcess

import pytest
import script
from file_server import Served, serve

from v_diffusion.images import metadata
from v_diffusion.images.decode import PictureError, open_picture
from v_diffusion.shell import addresses
from v_diffusion.shell.addresses import scrubbed, without_secrets

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
    assert done.returncode == 1 and f"init image {CLOSED}: Connection refused; " in done.stderr
    done = drawn(tmp_path, *QUICK[:4], CLOSED, "a", name="cfg_modify_image")
    assert done.returncode == 1 and f"init image {CLOSED}: Connection refused; " in done.stderr
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


SECRETS = [
    ("https://h/a.png", "https://h/a.png"),
    ("https://user:secret@h:80/a.png", "https://h:80/a.png"),
    ("HTTP://user@h/@b/a.png", "HTTP://h/@b/a.png"),
    ("http://u:p@ss@h/a.png?x=1#y", "http://h/a.png?x=1"),
    ("http://u:p/a@h/a.png", "http://h/a.png"),
    ("http://u:p?a@h/a.png", "http://h/a.png"),
    ("http://h/@u/a:b@c.png", "http://h/@u/a:b@c.png"),
    ("http://[::1]:80/a@b.png", "http://[::1]:80/a@b.png"),
    ("ftp://user:secret@h/a.png", "ftp://h/a.png"),
    ("https://h/a?w=5&token=x&h=7", "https://h/a?w=5&h=7"),
    ("https://h/a?access_token=x", "https://h/a"),
    ("https://h/a?X-Amz-Date=x&X-Amz-Signature=y&w=1", "https://h/a?w=1"),
    ("https://h/a?AWSAccessKeyId=x&Expires=3", "https://h/a?Expires=3"),
    ("https://h/a?Key-Pair-Id=x&sig=y&apiKey=z&client_secret=s&accesstoken=t", "https://h/a"),
    ("https://h/a?id=fox&size=5&source=key", "https://h/a?id=fox&size=5&source=key"),
    (f"https://h/a?hm={'0a' * 16}&w=1", "https://h/a?w=1"),
    (f"https://h/a?{'0a' * 16}", "https://h/a"),
    ("https://h/a#access_token=x", "https://h/a"),
    ("a/u:p@b.png?token=x", "a/u:p@b.png?token=x"),
]  # fmt: skip


@pytest.mark.parametrize("address, public", SECRETS)
def test_what_of_an_address_is_written_down(address, public):
    assert without_secrets(address) == public == without_secrets(public)
    assert scrubbed(f"no '{address}': {address} <{address}>") == (
        f"no '{public}': {public} <{public}>"
    )


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_password_opens_the_picture_and_stays_out_of_everything(tmp_path, suffix):
    basic = f"Basic {b64encode(b'user:hidden').decode()}"
    with serve(**{"a.png?w=5&token=hidden": Served(INIT, authorization=basic)}) as url:
        address = url.replace("//", "//user:hidden@") + "a.png?w=5&token=hidden"
        public = url + "a.png?w=5"
        words = (
            "--model",
            "emoji_64",
            "--steps",
            "3",
            "--images",
            f"{address}:0.5",
            "--init",
            address,
        )
        words = (*words, "--output", f"{{i}}.{suffix}")
        done = drawn(tmp_path, *words, "--", "a")
        assert done.returncode == 0, done.stderr
        made = tmp_path / f"0.{suffix}"
        record = metadata.read(made)
        assert record["images"][0]["image"] == record["init"]["image"] == public
        command = shlex.split(record["command"])
        assert command[command.index("--images") + 1] == f"{public}:0.5"
        assert command[command.index("--init") + 1] == public
        content = made.read_bytes()
        assert b"hidden" not in content and "hidden".encode("utf-16-be") not in content
        assert "hidden" not in done.stderr
        before = made.stat().st_mtime_ns  # by the picture's hash it is the same prompt
        done = drawn(tmp_path, *words, "--resume", "--", "a")
        assert (done.returncode, done.stdout) == (0, f"0.{suffix}\n")
        assert made.stat().st_mtime_ns == before
        done = drawn(tmp_path, *words[:-2], "--images", address.replace("hidden@", "x@"), "--", "a")
    assert done.returncode == 2 and "the server answers 401 (Unauthorized)" in done.stderr
    assert f"image prompt {public}: " in done.stderr and "hidden" not in done.stderr


@pytest.mark.parametrize(
    "address",
    [
        "http://user:hidden@127.0.0.1:1/a.png",
        "http://user:hidden@[::1/a.png",
        "http://user:hid/hidden@h/a.png",
        "http://user:hidden@/a.png",
        "http://user:hidden@127.0.0.1:99999/a.png",
        "http://user:hidden@127.0.0.1:1/a.png?key=hidden",
        "ftp://user:hidden@127.0.0.1/a.png",
    ],
)
def test_no_message_has_a_password_in_it(address, monkeypatch):
    monkeypatch.setattr(addresses, "TIMEOUTS", (1.0, 1.0))
    with pytest.raises(PictureError) as caught:
        open_picture(address)
    assert "hidden" not in str(caught.value) and "/a.png: " in str(caught.value)


@pytest.mark.parametrize(
    "address", ["http://[::1/x.png", "file://[x/y.png", "http://ex\u2100mple.com/x.png"]
)
def test_a_malformed_address(tmp_path, address):
    (tmp_path / "jobs").write_text(f'{{"images": ["{address}"], "output": "{{prompt}}.png"}}')
    for words in (["--images", address], ["--jobs", "jobs"]):
        done = drawn(tmp_path, *QUICK, *words)
        assert done.returncode == 2
        assert f"image prompt {address}: " in done.stderr.splitlines()[0]
        assert "Traceback" not in done.stderr
