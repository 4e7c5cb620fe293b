"""Contact sheets: of `make_grid.py`, and of a run."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import script
from conftest import ROOT
from PIL import Image

from v_diffusion.images import contact_sheet
from v_diffusion.shell.errors import UserError

QUICK = ("--model", "emoji_64", "--device", "cpu", "-cs", "0")


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
    levels = np.asarray(contact_sheet.make_sheet(squares(n, mode), nrow))
    first = levels if mode == "L" else levels[..., 0]
    np.testing.assert_array_equal(first, np.kron(rows, np.ones((3, 4), dtype=int)))


OTHER = "has another mode or size than the first image; convert or scale it, or leave it out"


@pytest.mark.parametrize(
    "images, message",
    [
        ([], "there are no images"),
        ([*squares(1), *squares(1, "L")], f"1.png {OTHER}"),
        ([*squares(2), *squares(1, size=(3, 4))], f"2.png {OTHER}"),
    ],
)
def test_images_that_make_no_sheet(tmp_path, monkeypatch, images, message):
    monkeypatch.chdir(tmp_path)
    paths = [Path(f"{i}.png") for i in range(len(images))]
    for path, image in zip(paths, images):
        image.save(path)
    with pytest.raises(UserError) as caught:
        contact_sheet.write_sheet(paths, Path("sheet.png"))
    assert str(caught.value) == f"no contact sheet: {message}"


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
        (("a.png", "b.png"), "no contact sheet: b.png has another mode or size than the first"),
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
