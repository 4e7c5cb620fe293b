"""Paths that lead to what never ends, and those that only look as if they did."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import script
from conftest import DATA, ROOT

from v_diffusion.images import decode as pictures
from v_diffusion.images.decode import PictureError, open_picture
from v_diffusion.shell import reading
from v_diffusion.shell.reading import FILE_LIMIT, read_file

PICTURE = DATA / "later" / "init.png"
DEVICE = "it is a device, not a file"
pytestmark = pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no /dev/zero")


def test_an_ordinary_file_is_read_up_to_its_limit(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert read_file(tmp_path / "a") == b"abc"
    os.truncate(tmp_path / "a", FILE_LIMIT + 1)  # which takes no room
    with pytest.raises(PictureError, match="a: can't be opened: it is longer than 1024 MiB"):
        open_picture(tmp_path / "a")


def test_a_file_that_does_not_tell_its_size_is_read_no_further(monkeypatch):
    """The kernel's own."""
    assert os.stat("/proc/self/maps").st_size == 0 < len(read_file("/proc/self/maps"))
    monkeypatch.setattr(reading, "FILE_LIMIT", 100)
    with pytest.raises(OSError, match="it is longer than "):
        read_file("/proc/self/maps")


@pytest.fixture
def pipe(tmp_path):
    """`pipe(write)` is a pipe with a name, to which a thread does that, if it is to do anything."""
    threads = []

    def make(write=None) -> Path:
        os.mkfifo(tmp_path / "pipe")
        if write:
            threads.append(threading.Thread(target=write, args=(tmp_path / "pipe",)))
            threads[-1].start()
        return tmp_path / "pipe"

    yield make
    for thread in threads:
        thread.join()


def test_a_pipe_is_read_to_its_end(pipe, monkeypatch):
    """However long it is until its writer comes: here, after it is read."""
    content = os.urandom(300_000)
    named = pipe(lambda path: path.write_bytes(content))
    monkeypatch.setattr(reading, "STREAM_LIMIT", len(content))
    assert read_file(named) == content


def test_a_pipe_without_an_end(pipe, monkeypatch):
    def write(path: Path) -> None:
        with pytest.raises(BrokenPipeError), open(path, "wb", 0) as file:
            while True:
                file.write(bytes(1 << 16))

    monkeypatch.setattr(reading, "STREAM_LIMIT", 100_000)
    with pytest.raises(OSError, match="it is longer than "):
        read_file(pipe(write))


def test_what_a_shell_substitutes(tmp_path):
    code = "import sys; from v_diffusion.images.decode import open_picture as o; "
    code += "print(*o(sys.argv[1]))"
    line = f'exec "$0" -c \'{code}\' <(cat "$1")'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable, PICTURE], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split()[-1] == open_picture(PICTURE)[1], done.stderr


@pytest.mark.parametrize(
    "name, words, message",
    [
        ("clip_sample", ["--images", "/dev/zero"], "image prompt /dev/zero: can't be opened: "),
        ("clip_sample", ["--images", "zero:0.5"], "image prompt zero: can't be opened: "),
        ("clip_sample", ["a", "--init", "/dev/zero"], "init image /dev/zero: can't be opened: "),
        ("cfg_modify_image", ["/dev/urandom"], "init image /dev/urandom: can't be opened: "),
        ("clip_sample", ["--again", "/dev/zero"], "--again: /dev/zero: "),
    ],
)
def test_devices(tmp_path, name, words, message):
    (tmp_path / "zero").symlink_to("/dev/zero")
    words = [*words, "--model", "emoji_64"]
    done = script.start(*words, cwd=tmp_path, script=f"{name}.py").wait()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{name}.py: {message}{DEVICE}\n"


def test_a_contact_sheet_of_a_device(tmp_path):
    done = script.start("/dev/zero", cwd=tmp_path, script="make_grid.py").wait()
    assert (done.returncode, done.stderr) == (2, f"make_grid.py: can't read /dev/zero: {DEVICE}\n")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_no_job_and_no_device(tmp_path):
    done = script.start("--model", "emoji_64", "--jobs", "/dev/null", cwd=tmp_path).wait()
    assert (done.returncode, done.stdout) == (0, "")


def test_the_picture_of_a_pipe_and_of_its_file_have_one_hash(pipe):
    named = pipe(lambda path: path.write_bytes(PICTURE.read_bytes()))
    assert pictures.open_picture(named)[1] == open_picture(PICTURE)[1]
