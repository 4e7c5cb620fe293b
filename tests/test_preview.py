"""What there is to look at: previews, contact sheets, progress."""

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
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
from conftest import ROOT
from PIL import Image

from diffusion import utils
from v_diffusion.images import contact_sheet as grid
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
    run = ("red apple", *QUICK, "-n", "2", "-bs", "2", "--steps", "150", "--preview", "2")
    running = script.start(*run, cwd=tmp_path)
    seen = {0: 0, 1: 0}
    while running.process.is_alive():
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


def squares(n: int, mode: str = "RGB", size: tuple[int, int] = (4, 3)) -> list[Image.Image]:
    return [Image.new(mode, size, i + 1 if mode == "L" else (i + 1, 0, 9)) for i in range(n)]


@pytest.mark.parametrize(
    "n, nrow, rows",
    [
        (1, None, [[1]]),
        (5, None, [[1, 2, 3], [4, 5, 0]]),
        (9, None, [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
        (3, 2, [[1, 2], [3, 0]]),
        (2, 3, [[1, 2, 0]]),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_sheet_goes_row_by_row_and_ends_black(n, nrow, rows, mode):
    levels = np.asarray(grid.make_sheet(squares(n, mode), nrow))
    first = levels if mode == "L" else levels[..., 0]
    np.testing.assert_array_equal(first, np.kron(rows, np.ones((3, 4), dtype=int)))


@pytest.mark.parametrize(
    "images, message",
    [
        ([], "there are no images"),
        ([*squares(1), *squares(1, "L")], "image 2 has another mode or size than the first"),
        (
            [*squares(2), *squares(1, size=(3, 4))],
            "image 3 has another mode or size than the first",
        ),
    ],
)
def test_images_that_make_no_sheet(images, message):
    with pytest.raises(ValueError) as caught:
        grid.make_sheet(images)
    assert message in str(caught.value)


def make_grid(*args: object, cwd: Path) -> subprocess.CompletedProcess:
    return script.start(*args, cwd=cwd, script="make_grid.py").wait()


def test_make_grid(tmp_path):
    for i, image in enumerate(squares(5)):
        image.save(tmp_path / f"{i}.png")
    names = [f"{i}.png" for i in range(5)]
    done = make_grid(*names, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "out.png\n", "")
    assert Image.open(tmp_path / "out.png").size == (12, 6)
    done = make_grid(*names, "-o", "new/sheet.webp", "--nrow", "5", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "new/sheet.webp\n")
    assert Image.open(tmp_path / "new/sheet.webp").size == (20, 3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "the following arguments are required: IMAGE"),
        (("none.png",), "can't read none.png: No such file or directory"),
        (("text.png",), "text.png: it is not an image in a known format; give"),
        (("a.png", "b.png"), "no contact sheet: image 2 has another mode or size than"),
        (("a.png", "-o", "x.gif"), "--output: x.gif: the suffix names no image format; use .png"),
        (("a.png", "-o", "a.png"), "--output: a.png: it is one of the images; give another name"),
        (("a.png", "--nrow", "0"), "argument --nrow: '0' is not a whole number of at least 1"),
        (("a.png", "--nrow", "100000000000"), "no contact sheet: it would be too large; give a"),
        (("p.png", "-o", "x.jpg"), "x.jpg: cannot write mode RGBA as JPEG; write a .png"),
    ],
)
def test_mistakes_of_make_grid(tmp_path, arguments, message):
    squares(1)[0].save(tmp_path / "a.png")
    squares(1, size=(3, 4))[0].save(tmp_path / "b.png")
    squares(1)[0].convert("RGBA").save(tmp_path / "p.png")
    (tmp_path / "text.png").write_text("text")
    there = sorted(os.listdir(tmp_path))
    done = make_grid(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"make_grid.py: {message}")
    assert sorted(os.listdir(tmp_path)) == there


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("name, nohup", [("SIGTERM", False), ("SIGHUP", False), ("SIGTERM", True)])
def test_a_signal_leaves_no_preview(tmp_path, name, nohup):
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)

    command = [sys.executable, ROOT / "clip_sample.py", "owl", *QUICK, "--steps", "100000"]
    with subprocess.Popen(
        [*command, "--preview", "1"], cwd=tmp_path, stderr=subprocess.PIPE, preexec_fn=ignore
    ) as run:
        while not (tmp_path / "out_00000.png.preview.png").exists():
            assert run.poll() is None
            time.sleep(0.01)
        if nohup:  # it hears of the other signal alone
            run.send_signal(signal.SIGHUP)
            time.sleep(0.3)
            assert run.poll() is None
        run.send_signal(signal.Signals[name])
        _, said = run.communicate(timeout=600)
    status = 128 + signal.Signals[name]
    assert (run.returncode, said) == (status, b"Using device: cpu\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_stdout_on_a_full_disk(tmp_path):
    squares(1)[0].save(tmp_path / "a.png")
    command = [sys.executable, ROOT / "make_grid.py", "a.png"]
    with open("/dev/full", "w") as full:
        pipes = {"stdout": full, "stderr": subprocess.PIPE, "text": True}
        done = subprocess.run(command, cwd=tmp_path, **pipes)
    why = "can't write to stdout: No space left on device"
    assert (done.returncode, done.stderr) == (1, f"make_grid.py: {why}\n")
    done = subprocess.run(
        [*command, "--output", "b.png"], cwd=tmp_path, preexec_fn=lambda: os.close(1)
    )
    assert done.returncode == 0  # and where there is no stdout


def test_a_line_is_one_write(monkeypatch):
    """What several processes say into one file stays apart."""
    said = []
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=said.append, flush=lambda: None))
    print_line(Path("a/b.png"))
    assert said == ["a/b.png\n"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes")
def test_paths_on_stdout_are_the_bytes_they_are(tmp_path):
    squares(1)[0].save(tmp_path / "a.png")
    command = [sys.executable, ROOT / "make_grid.py", "a.png", "-o", b"\xff\xc3\xa9.png"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\xff\xc3\xa9.png\n", b"")


def test_the_grid_of_a_run(clip_sample, tmp_path):
    run = ("red apple", *QUICK, "--steps", "1", "-n", "3", "--output", "{i}.png")
    done = clip_sample(*run, "--grid", "all.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0.png", "1.png", "2.png", "all.png"]
    sheet = np.asarray(Image.open(tmp_path / "all.png"))
    assert sheet.shape == (128, 128, 3) and not sheet[64:, 64:].any()
    np.testing.assert_array_equal(sheet[64:, :64], np.asarray(Image.open(tmp_path / "2.png")))

    done = clip_sample(*run, "--grid", "2.png", "--resume")
    assert done.returncode == 2
    assert "--output: {i}.png: 2.png is the contact sheet" in done.stderr
    done = clip_sample("--again", "0.png", "--output", "x.png", "--grid", "0.png")
    assert done.returncode == 2
    assert "the contact sheet would replace an input picture" in done.stderr
    (tmp_path / "file").write_text("")
    done = clip_sample(*run, "--grid", "file/grid.png")
    assert (done.returncode, done.stdout) == (2, "")
    done = clip_sample(*run, "--grid", "a.txt")
    assert done.stderr.startswith(
        "clip_sample.py: --grid: a.txt: the suffix names no image format; use "
    )


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
    command = [sys.executable, ROOT / "clip_sample.py", "red apple", *QUICK, "-n", "2"]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    said = b""
    with subprocess.Popen(
        [*command, "--steps", "3"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # nobody has the terminal any more
                break
            said += part
        stdout = process.stdout.read()
    os.close(ours)
    assert (process.returncode, stdout) == (0, b"out_00000.png\nout_00001.png\n")
    text = said.decode()
    assert "image 1 of 2, step 1 of 3" in text and "image 1 of 2: " not in text
    assert text.count("\n") == 1  # behind "Using device: cpu"
