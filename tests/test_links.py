"""Names of files that are more than names: symbolic links, and those of the greatest length."""

import os
from pathlib import Path

import numpy as np
import pytest
from file_server import files as names
from PIL import Image
from records import PLAIN

from v_diffusion.images import metadata
from v_diffusion.images.output import WriteFailed, prepare, write
from v_diffusion.shell.writing import MACHINE, draft_of, stem_of, sweep

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
LONGEST = {  # of 255 bytes
    "latin": "x" * 251 + ".png",
    "umlauts": "ü" * 125 + "x.png",
    "bytes": os.fsdecode(b"\xff" * 251 + b".png"),
}
QUICK = ("--model", "emoji_64", "--device", "cpu", "--steps", "2", "-cs", "0")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_file_is_written(folder, there):
    (folder / "real").mkdir()
    if there:
        (folder / "real" / "a.png").write_text("old")
    Path("link.png").symlink_to("real/a.png")
    prepare([Path("link.png")])
    assert names(folder / "real") == ["a.png"] * there
    write(PICTURE, Path("link.png"), PLAIN)
    assert Path("link.png").is_symlink() and os.readlink("link.png") == "real/a.png"
    assert not Path("real/a.png").is_symlink() and metadata.read(Path("real/a.png")) == PLAIN
    assert names(folder) == ["link.png", "real"] and names(folder / "real") == ["a.png"]


def test_what_is_left_where_a_link_points_is_swept(folder):
    (folder / "real").mkdir()
    Path("link.png").symlink_to("real/a.png")
    left = folder / "real" / f".a.png.{MACHINE}.999999999.partial"
    left.write_text("")
    prepare([Path("link.png")])
    assert names(folder / "real") == []


def test_a_link_into_a_folder_that_is_gone(folder):
    Path("link.png").symlink_to("gone/a.png")
    with pytest.raises(WriteFailed, match="^can't write link.png: No such file or directory; "):
        write(PICTURE, Path("link.png"), None)
    assert names(folder) == ["link.png"]


@pytest.mark.parametrize("name", LONGEST.values(), ids=LONGEST)
def test_the_longest_name_that_there_can_be(folder, name):
    assert len(os.fsencode(name)) == 255
    prepare([Path(name)])
    assert names(folder) == []
    write(PICTURE, Path(name), PLAIN)
    assert names(folder) == [name] and metadata.read(Path(name)) == PLAIN


def test_drafts_of_long_names_are_told_apart_and_swept(folder):
    long, other = "x" * 251 + ".png", "x" * 250 + "y.png"
    assert stem_of("a.png") == "a.png" and stem_of("x" * 200) == "x" * 200
    assert len(stem_of(long)) == 8 and stem_of(long) != stem_of(other)
    for name in (long, other):
        draft_of(Path(name), 999999999).write_text("")
    sweep(Path("."))
    assert names(folder) == []


def test_a_run_with_long_names_and_links(clip_sample, folder):
    Path("link.png").symlink_to("a.png")
    name = "x" * 250 + "{i}.png"
    for more in ((), ("--resume",)):  # with previews, for whose names there is no room
        done = clip_sample("fox", *QUICK, "-n", "2", "-o", name, "--preview", "1", *more)
        assert (done.returncode, len(done.stdout.split())) == (0, 2), done.stderr
    done = clip_sample("fox", *QUICK, "-o", "link.png")
    assert (done.returncode, done.stdout) == (0, "link.png\n"), done.stderr
    assert Path("link.png").is_symlink() and metadata.read(Path("a.png"))["seed"] == 0
    done = clip_sample("--again", "a.png", "-o", "link.png")
    assert done.returncode == 2 and "is an input picture" in done.stderr


def test_a_device_by_its_name(clip_sample):
    from clip_sample import load_model

    assert next(load_model("emoji_64", None, "cpu").parameters()).device.type == "cpu"
    done = clip_sample("fox", *QUICK, "--device", "cpu:0")
    assert done.returncode == 0 and done.stderr.startswith("Using device: cpu\n")
