import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import run_python
from file_server import files as names
from PIL import Image
from records import PLAIN
from records import RECORD as OTHER

from v_diffusion.images import metadata, output
from v_diffusion.images.names import FORMATS
from v_diffusion.images.output import WriteFailed
from v_diffusion.shell import writing
from v_diffusion.shell.errors import UserError

LEVELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
PICTURE = Image.fromarray(LEVELS)
RECORD = PLAIN
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".PNG")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The test's own folder, where it runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_prepare_makes_the_folders_and_leaves_nothing_else(folder):
    output.prepare([Path("a/7/0.png"), Path("a/8/1.png")])
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == [
        "a",
        "a/7",
        "a/8",
    ]
    output.prepare([Path("a/7/0.png"), Path("a/8/1.png")])


@pytest.mark.parametrize("pattern", ["file/x.png", "file/deeper/x.png"])
def test_prepare_where_a_file_has_the_folders_name(folder, pattern):
    (folder / "file").write_text("")
    with pytest.raises(UserError) as caught:
        output.prepare([Path(pattern)])
    folder = Path(pattern).parent
    reason = "Not a directory" if folder.name == "deeper" else "File exists"
    assert str(caught.value) == f"--output: can't write to {folder}: {reason}; give another name"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody can write to")
def test_prepare_where_not_even_root_can_write():
    with pytest.raises(UserError) as caught:
        output.prepare([Path("/proc/x.png")])
    assert str(caught.value) == (
        "--output: can't write to /proc: No such file or directory; give another name"
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_write_in_every_format(folder, suffix):
    path = folder / f"x{suffix}"
    output.write(PICTURE, path, RECORD)
    assert names(folder) == [path.name]
    assert metadata.read(path) == RECORD
    with Image.open(path) as image:
        assert image.format == FORMATS[suffix.lower()]
        levels = np.asarray(image.convert("RGB"))
    if suffix in (".jpg", ".jpeg"):
        # Full colour resolution: with the colours of 2x2 pixels averaged it would be 50.
        assert np.abs(levels.astype(int) - LEVELS).mean() < 5
    else:
        assert (levels == LEVELS).all()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_the_same_image_is_the_same_file(folder, suffix):
    for name in ("a", "b"):
        output.write(PICTURE, folder / (name + suffix), RECORD)
    a, b = (folder / (name + suffix) for name in ("a", "b"))
    assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_no_metadata(folder, suffix):
    path = folder / f"x{suffix}"
    output.write(PICTURE, path, None)
    content = path.read_bytes()
    assert metadata.read(path) is None
    for word in (b"tEXt", b"iTXt", b"Exif", b"EXIF", b"UNICODE", b"v-diffusion"):
        assert word not in content


def test_a_record_that_does_not_fit_is_the_users_to_change(folder):
    made = RECORD | {"prompts": [{"text": "x" * 30_000, "weight": 1.0}]}
    with pytest.raises(UserError) as caught:
        output.write(PICTURE, Path("x.jpg"), made)
    assert str(caught.value) == "x.jpg: EXIF data is too long; write a .png"
    assert names(folder) == []


class Interrupted(BaseException):
    """As Ctrl-C, without pytest's taking it for one."""


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Interrupted()])
def test_what_goes_wrong_leaves_the_old_file_and_no_other(folder, monkeypatch, function, error):
    path = Path("x.png")
    path.write_text("old")

    def fail(*_: object) -> None:
        assert len(names(folder)) == 2
        raise error

    monkeypatch.setattr(os, function, fail)
    expected = WriteFailed if isinstance(error, OSError) else Interrupted
    with pytest.raises(expected) as caught:
        output.write(PICTURE, path, RECORD)
    assert names(folder) == ["x.png"]
    assert path.read_text() == "old"
    if expected is WriteFailed:
        assert str(caught.value) == (
            "can't write x.png: No space left on device; the images before it are whole, "
            "and --resume continues with this one"
        )


def test_a_lost_folder():
    output.prepare([Path("a/x.png")])
    os.rmdir("a")
    with pytest.raises(WriteFailed) as caught:
        output.write(PICTURE, Path("a/x.png"), RECORD)
    assert str(caught.value) == (
        "can't write a/x.png: No such file or directory; the images before it are whole, "
        "and --resume continues with this one"
    )


def test_a_disk_that_takes_only_the_beginning(folder):
    code = """
import resource
from pathlib import Path
from PIL import Image
from v_diffusion.images import output
from v_diffusion.shell import program
import sys

resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

def run():
    output.write(Image.new("RGB", (16, 16)), Path("small.png"), None)
    output.write(Image.effect_noise((64, 64), 90), Path("large.png"), None)

sys.exit(program.exit_status("program", run))
"""
    result = run_python("-c", code, cwd=folder)
    assert (result.returncode, result.stderr) == (
        1,
        "program: can't write large.png: File too large; the images before it are whole, "
        "and --resume continues with this one\n",
    )
    assert names(folder) == ["small.png"]
    assert metadata.whole_image(Path("small.png").read_bytes()).size == (16, 16)


def test_drafts_of_dead_processes_are_removed(folder):
    dead = dead_pid()
    kept = [
        writing.draft_of(Path("x.png"), os.getppid()).name,  # alive
        f".x.png.{int(writing.MACHINE, 16) ^ 1:08x}.{dead}.partial",  # another machine's
        f".x.png.{writing.MACHINE}.a.partial",
        f"x.png.{dead}.partial",
    ]
    left = [writing.draft_of(Path(name), dead).name for name in ("x.png", "y.png")]
    for name in [*kept, *left, writing.draft_of(Path("x.png")).name]:
        (folder / name).write_text("")
    output.write(PICTURE, Path("x.png"), RECORD)
    assert names(folder) == sorted([*kept, "x.png"])
    for name in left:
        (folder / name).write_text("")
    output.prepare([Path("x.png")])
    assert names(folder) == sorted([*kept, "x.png"])


def test_killed_between_the_draft_and_its_name(folder):
    output.write(PICTURE, Path("x.png"), RECORD)
    old = Path("x.png").read_bytes()
    code = """
import os, signal
from pathlib import Path
from PIL import Image
from v_diffusion.images import output
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
output.write(Image.new("L", (8, 8)), Path("x.png"), None)
"""
    assert run_python("-c", code, cwd=folder).returncode == -signal.SIGKILL
    assert len(names(folder)) == 2
    assert Path("x.png").read_bytes() == old
    output.write(PICTURE, Path("x.png"), RECORD)
    assert names(folder) == ["x.png"]


def test_is_done_of_no_file():
    assert output.is_done(Path("x.png"), RECORD) is False
    assert output.is_done(Path("nowhere/x.png"), RECORD) is False


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_is_done(suffix):
    path = Path(f"x{suffix}")
    output.write(PICTURE, path, RECORD)
    assert output.is_done(path, RECORD) is True
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert output.is_done(path, RECORD) is False


def test_is_done_of_other_settings():
    output.write(PICTURE, Path("x.png"), RECORD)
    with pytest.raises(UserError) as caught:
        output.is_done(Path("x.png"), RECORD | {"steps": 25})
    assert str(caught.value) == (
        "--resume: x.png has other settings: steps is 50 there and 25 here; "
        "give another --output, or leave out --resume to replace it"
    )
    with pytest.raises(UserError) as caught:
        output.is_done(Path("x.png"), OTHER)
    assert "x.png has other settings: list of prompts is [" in str(caught.value)


@pytest.mark.parametrize("made", [None, {}, {"prompts": 3}, {"prompts": ["a"]}])
def test_is_done_of_unknown_settings(made, monkeypatch):
    output.write(PICTURE, Path("x.png"), None)
    monkeypatch.setattr(output, "record_in", lambda _: made)
    with pytest.raises(UserError) as caught:
        output.is_done(Path("x.png"), RECORD)
    assert str(caught.value) == (
        "--resume: x.png does not say how it was made; "
        "give another --output, or leave out --resume to replace it"
    )


def test_is_done_of_what_can_not_be_read(folder):
    (folder / "x.png").mkdir()
    with pytest.raises(UserError) as caught:
        output.is_done(Path("x.png"), RECORD)
    assert str(caught.value) == "can't read x.png: Is a directory"
