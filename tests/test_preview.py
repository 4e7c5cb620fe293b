"""What there is to look at: previews and progress."""

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import script
import torch
from PIL import Image

from diffusion import utils
from v_diffusion.images.names import preview_of
from v_diffusion.run.preview import Preview
from v_diffusion.run.progress import Progress
from v_diffusion.shell.console import listed, print_line

QUICK = ("--model", "emoji_64", "--device", "cpu", "-cs", "0")


def printable(paths: list[Path], every: int, preds: list[torch.Tensor]) -> list[np.ndarray]:
    """What the previews are when the sampler has made its last step, and is waited for."""
    with Preview(paths, every) as preview:
        for i, pred in enumerate(preds):
            preview({"i": i, "pred": pred})
            if preview._writing is not None:
                preview._writing.result()
        found = [preview_of(path) for path in paths]
        levels = [np.asarray(Image.open(path)) for path in found if path.exists()]
    assert not any(path.exists() for path in found)
    return levels


def test_a_preview_is_the_pred_of_every_so_many_steps(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.webp"]
    preds = [torch.rand(2, 3, 8, 8) * 2 - 1 for _ in range(7)]
    for every, last in ((1, 6), (3, 5), (7, 6)):
        for levels, x in zip(printable(paths, every, preds), preds[last], strict=True):
            np.testing.assert_array_equal(levels, np.asarray(utils.to_pil_image(x)))
    assert printable(paths, 8, preds) == []
    assert preview_of(paths[1]) == tmp_path / "b.webp.preview.png"
    assert not list(tmp_path.iterdir())


def test_where_nobody_says_how_often_a_preview_comes_each_second(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("v_diffusion.run.preview.time.monotonic", lambda: now[0])
    path, times = tmp_path / "a.png", []
    with Preview([path], 0) as preview:
        for i in range(30):
            now[0] += 0.25
            before = preview._writing
            preview({"i": i, "pred": torch.zeros(1, 3, 8, 8)})
            if preview._writing is not before:
                preview._writing.result()
                times.append(i)
    assert times == [3, 7, 11, 15, 19, 23, 27]


def test_a_step_does_not_wait_for_the_file(tmp_path, monkeypatch):
    go, written = threading.Event(), []

    def write(image, path, metadata):
        assert go.wait(60)
        written.append(image.getpixel((0, 0))[0])

    monkeypatch.setattr("v_diffusion.run.preview.output.write", write)
    with Preview([tmp_path / "a.png"], 1) as preview:
        for i, level in enumerate((-1.0, 0.0, 1.0)):
            preview({"i": i, "pred": torch.full((1, 3, 2, 2), level)})
        go.set()
        preview._writing.result()
    assert written == [0]


def test_previews_appear_and_go(tmp_path):
    """Watched while it draws. Whatever is seen under the name is a whole picture."""
    run = ("red apple", *QUICK, "-n", "2", "-bs", "2", "--steps", "50", "--preview", "2")
    running = script.start(*run, cwd=tmp_path)
    seen = {0: 0, 1: 0}
    while running.process.is_alive():
        time.sleep(0.005)
        for i in seen:
            try:
                content = (tmp_path / f"out_0000{i}.png.preview.png").read_bytes()
            except FileNotFoundError:
                continue
            image = Image.open(io.BytesIO(content))
            image.load()
            seen[i] += image.size == (64, 64)
    assert running.wait().returncode == 0
    assert min(seen.values()) > 0
    assert sorted(os.listdir(tmp_path)) == ["out_00000.png", "out_00001.png"]


def test_previews_do_not_change_the_picture(clip_sample, tmp_path):
    assert clip_sample("fox", *QUICK, "--steps", "4", "--eta", "1").returncode == 0
    plain = (tmp_path / "out_00000.png").read_bytes()
    options = ("--steps", "4", "--eta", "1", "--preview", "1")
    assert clip_sample("fox", *QUICK, *options).returncode == 0
    assert (tmp_path / "out_00000.png").read_bytes() == plain
    assert os.listdir(tmp_path) == ["out_00000.png"]


@pytest.mark.parametrize("name, nohup", [("SIGTERM", False), ("SIGHUP", False), ("SIGTERM", True)])
def test_a_signal_leaves_no_preview(tmp_path, name, nohup):
    handler = "SIG_IGN" if nohup else "SIG_DFL"
    code = f"import signal; signal.signal(signal.SIGHUP, signal.{handler})"
    words = ("owl", *QUICK, "--steps", "100000", "--preview", "1")
    running = script.start(*words, cwd=tmp_path, code=code)
    running.wait_for((tmp_path / "out_00000.png.preview.png").exists)
    if nohup:  # it hears of the other signal alone
        running.signal(signal.SIGHUP)
        time.sleep(0.3)
        assert running.process.is_alive()
    running.signal(signal.Signals[name])
    done = running.wait()
    status = 128 + signal.Signals[name]
    assert (done.returncode, done.stderr) == (status, "Using device: cpu\n")
    assert list(tmp_path.iterdir()) == []


def test_a_line_is_one_write(monkeypatch):
    """What several processes say into one file stays apart."""
    said = []
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=said.append, flush=lambda: None))
    print_line(Path("a/b.png"))
    assert said == ["a/b.png\n"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_one_bar_on_a_terminal(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(4, tells=True)
    for batch in range(2):
        for step in range(1, 6):
            progress.draws(2, step, 5, step / 5)
        for i in range(2):
            progress.is_there(Path(f"{2 * batch + i}.png"), 1.0)
    progress.close()
    bars = re.findall(r"images? (.+?), step (\d) of 5 +(\d+)%\|", terminal.getvalue())
    assert bars[0][0] == "1 to 2 of 4" and bars[-1] == ("3 to 4 of 4", "5", "100")
    assert capsys.readouterr().out == "0.png\n1.png\n2.png\n3.png\n"


def test_a_line_an_image_in_a_log(capsys):
    progress = Progress(3, tells=True)
    progress.is_there(Path("0.png"))
    progress.draws(1, 1, 5, 0.2)
    progress.is_there(Path("1.png"), 2.04)
    progress.close()
    silent = Progress(None, tells=False)
    silent.is_there(Path("2.png"), 1.0)
    silent.close()
    out, err = capsys.readouterr()
    assert out == "0.png\n1.png\n2.png\n"
    assert err == "image 2 of 3: 1.png, 2.0 s\n"


def test_names_in_a_row():
    assert listed(["a"]) == "a" and listed(list("abcdefg"), 5) == "a, b, c, d, e and 2 more"


def test_a_run_on_a_terminal_shows_one_bar_and_takes_it_away(tmp_path):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    words = ("red apple", *QUICK, "-n", "2", "--steps", "3")
    running = script.start(*words, cwd=tmp_path, stderr=os.ttyname(theirs))
    said = b""
    while running.process.is_alive() or select.select([ours], [], [], 0)[0]:
        if select.select([ours], [], [], 0.05)[0]:
            said += os.read(ours, 4096)
    done = running.wait()
    for end in (ours, theirs):
        os.close(end)
    assert (done.returncode, done.stdout) == (0, "out_00000.png\nout_00001.png\n")
    text = said.decode()
    assert "image 1 of 2, step 1 of 3" in text and "image 1 of 2: " not in text
    assert text.count("\n") == 1  # behind "Using device: cpu"
