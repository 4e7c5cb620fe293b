"""Programs whose stdout or stderr is closed, or leads to a full disk."""

import subprocess
import sys
from pathlib import Path

import pytest
import script
from conftest import ROOT
from PIL import Image

DRAW = (ROOT / "clip_sample.py", "a", "--model", "emoji_64", "--steps", "1", "-cs", "0")
GRID = (ROOT / "make_grid.py", "one.png", "-o", "grid.png")
CHECKPOINTS = ("-m", "v_diffusion.weights")
CLOSE = "import os, sys; sys.{0} = sys.__{0}__ = None; os.close({1})"  # as Python finds it then
FULL = "can't write to stdout: No space left on device\n"


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """`shell(words, redirection)` runs Python as a shell does, and gives what came out of it."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")

    def shell(words: tuple[object, ...], redirection: str) -> tuple[int, str, str]:
        line = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, *map(str, words)]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        return done.returncode, done.stdout, done.stderr

    return shell


def images(folder: Path) -> list[str]:
    """What was made there, all of it whole."""
    found = sorted(path.name for path in folder.iterdir() if path.name != "one.png")
    for name in found:
        Image.open(folder / name).load()
    return found


def test_a_closed_stderr_is_silence(shell, tmp_path):
    """And nothing but paths is on stdout, whatever file has got its number."""
    done = script.start(*DRAW[1:], cwd=tmp_path, code=CLOSE.format("stderr", 2)).wait()
    assert (done.returncode, done.stdout) == (0, "out_00000.png\n")
    assert shell(GRID, "2>&-") == (0, "grid.png\n", "")
    assert images(tmp_path) == ["grid.png", "out_00000.png"]
    assert shell((*DRAW, "--nonsense"), "2>&-") == (2, "", "")
    status, said, _ = shell(CHECKPOINTS, "2>&-")
    assert status == 0 and said.startswith("name ")


def test_a_closed_stdout_is_silence(shell, tmp_path):
    done = script.start(*DRAW[1:], cwd=tmp_path, code=CLOSE.format("stdout", 1)).wait()
    said = done.stderr
    assert done.returncode == 0
    assert said.startswith("Using device: cpu\nimage 1 of 1: out_00000.png, "), said
    assert shell(GRID, ">&-") == (0, "", "")
    assert images(tmp_path) == ["grid.png", "out_00000.png"]
    assert shell(CHECKPOINTS, ">&-") == (0, "", "")
    assert shell((DRAW[0], "--help"), ">&-") == (0, "", "")


def test_with_all_streams_closed_it_draws(shell, tmp_path):
    assert shell(DRAW, "<&- >&- 2>&-") == (0, "", "")
    assert shell(GRID, "<&- >&- 2>&-") == (0, "", "")
    assert images(tmp_path) == ["grid.png", "out_00000.png"]
    assert shell((*DRAW[:1], "--jobs", "-"), "<&-") == (0, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_behind_a_stream(shell, tmp_path):
    done = script.start(*DRAW[1:], cwd=tmp_path, stdout="/dev/full").wait()
    assert (done.returncode, done.stderr) == (1, f"Using device: cpu\nclip_sample.py: {FULL}")
    assert shell(GRID, "> /dev/full") == (1, "", f"make_grid.py: {FULL}")
    assert shell(GRID, "2> /dev/full") == (0, "grid.png\n", "")
    assert shell((*GRID, "--nonsense"), "2> /dev/full") == (2, "", "")
    assert images(tmp_path) == ["grid.png", "out_00000.png"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("words", [(DRAW[0], "--help"), (GRID[0], "-h"), CHECKPOINTS])
def test_help_that_nobody_can_read(shell, words):
    status, said, wrong = shell(words, "> /dev/full")
    assert (status, said) == (1, "") and wrong.endswith(FULL) and wrong.count("\n") == 1


@pytest.mark.parametrize("words", [(DRAW[0], "--help"), CHECKPOINTS])
def test_help_whose_reader_has_gone(words):
    command = [sys.executable, *map(str, words)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(600) == 1
