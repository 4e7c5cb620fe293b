"""What others hand in: pictures whose records name files and addresses, weights that change."""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import script
from conftest import ROOT
from file_server import Served, serve
from PIL import Image

from v_diffusion import Job, Studio
from v_diffusion.images import metadata, output
from v_diffusion.shell.console import log
from v_diffusion.shell.errors import RunError
from v_diffusion.weights import store

QUICK = ("--model", "emoji_64", "--device", "cpu", "--steps", "1", "-cs", "0")
INIT = ROOT / "tests" / "data" / "later" / "init.png"
CHANGED = "net.pth has changed while it was in use; start again"


@pytest.fixture
def weights(tmp_path, monkeypatch) -> Iterator[Path]:
    """A file of weights, net.pth, in the current folder."""
    monkeypatch.chdir(tmp_path)
    level = log.level  # which a script sets
    yield Path(shutil.copy(store.FOLDER / "emoji_64.pth", tmp_path / "net.pth"))
    log.setLevel(level)


def handed_in(folder: Path, **changes: object) -> None:
    """Make a.png, whose record somebody has changed."""
    assert script.start("fox", *QUICK, "-o", "own.png", cwd=folder).wait().returncode == 0
    record = metadata.read(folder / "own.png") | changes
    output.write(Image.new("RGB", (64, 64)), folder / "a.png", record)


def said_of(done) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("--again: ")]


def test_what_a_record_names_is_told_before_it_is_opened(tmp_path, weights, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with serve(**{"a.png": Served(INIT.read_bytes())}) as url:
        secret = url.replace("http://", "http://me:password@") + "a.png?token=abc&n=1"
        images = [{"image": name, "weight": 1.0, "sha256": ""} for name in (secret, "b\x1b.png")]
        handed_in(tmp_path, checkpoint="net.pth", clip_checkpoint="no.pth", images=images)
        done = script.start("--again", "a.png", "--quiet", cwd=tmp_path).wait()
        assert done.returncode == 2
        assert said_of(done) == [
            f"--again: a.png names --images {url}a.png?n=1",
            r"--again: a.png names --images 'b\x1b.png'",
            "--again: a.png names --checkpoint net.pth",
            "--again: a.png names --clip-checkpoint no.pth",
        ]
        assert done.stderr.splitlines()[:4] == said_of(done)
        own = ("--images", INIT, "--clip-checkpoint", store.FOLDER / "emoji_64_clip.pth")
        done = script.start("--again", "a.png", *own, cwd=tmp_path).wait()
        assert done.returncode == 0, done.stderr
        assert said_of(done) == ["--again: a.png names --checkpoint net.pth"]


@pytest.mark.parametrize("name, label", [("clip_sample", "--init"), ("cfg_modify_image", "init")])
def test_the_picture_that_a_record_starts_from_is_told(tmp_path, name, label):
    words = [INIT, "fox"] if name == "cfg_modify_image" else ["fox", "--init", INIT]
    quick = (*QUICK[:4], "--steps", "3")
    done = script.start(*words, *quick, "-o", "a.png", cwd=tmp_path, script=f"{name}.py").wait()
    assert done.returncode == 0, done.stderr
    done = script.start("--again", "a.png", cwd=tmp_path, script=f"{name}.py").wait()
    assert done.returncode == 0 and said_of(done) == [f"--again: a.png names {label} {INIT}"]


def test_of_a_picture_of_shipped_weights_nothing_is_told(tmp_path):
    handed_in(tmp_path)
    done = script.start("--again", "a.png", "-o", "b.png", cwd=tmp_path).wait()
    assert done.returncode == 0 and said_of(done) == []


def overwrite(path: Path) -> None:
    """With as many bytes."""
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(1000))


def replace(path: Path) -> None:
    """By another file of the same size and time."""
    shutil.copy2(path, "new.pth")
    os.replace("new.pth", path)


def truncate(path: Path) -> None:
    os.truncate(path, 1000)


@pytest.mark.parametrize("change", [overwrite, replace, truncate])
def test_a_file_of_weights_that_changes_between_two_batches(weights, change):
    studio = Studio("cpu")
    job = Job("fox", model="emoji_64", steps=1, clip_guidance_scale=0, checkpoint="net.pth")
    studio.draw(job)
    change(weights)
    with pytest.raises(RunError) as failure:
        studio.draw(job)
    assert str(failure.value) == CHANGED


def test_a_file_of_weights_that_changes_before_it_is_hashed(tmp_path, weights, monkeypatch, capsys):
    """No picture gets the hash of another file."""
    import clip_sample

    drawn = threading.Event()
    draw, sha256 = Studio.draw_batch, store.sha256

    def draw_and_tell(self, *args, **options):
        pictures = draw(self, *args, **options)
        threading.Timer(0.3, drawn.set).start()
        return pictures

    def change_and_hash(path):
        assert drawn.wait(60)
        overwrite(weights)
        return sha256(path)

    monkeypatch.setattr(Studio, "draw_batch", draw_and_tell)
    monkeypatch.setattr(store, "sha256", change_and_hash)
    files = ("--checkpoint", "net.pth", "--clip-checkpoint")
    assert clip_sample.main([*QUICK, *files, str(store.FOLDER / "emoji_64_clip.pth")]) == 1
    assert CHANGED in capsys.readouterr().err and not list(tmp_path.glob("*.png"))


def test_it_ends_a_run_with_one_line(tmp_path, weights):
    jobs = [{"prompts": name, "output": f"{name}.png"} for name in ("fox", "owl")]
    os.mkfifo(tmp_path / "jobs")
    words = ("--jobs", "jobs", *QUICK, "--checkpoint", "net.pth")
    running = script.start(*words, cwd=tmp_path)
    with open(tmp_path / "jobs", "w", buffering=1) as pipe:
        pipe.write(json.dumps(jobs[0]) + "\n")
        while "fox.png" not in running.stdout.read_text():
            assert running.process.is_alive()
            time.sleep(0.05)
        os.truncate(weights, 1000)
        pipe.write(json.dumps(jobs[1]) + "\n")
    done = running.wait()
    assert (done.returncode, done.stdout) == (1, "fox.png\n")
    assert done.stderr.splitlines()[-2:] == [
        f"jobs:2: {CHANGED}",
        "clip_sample.py: not drawn: jobs:2",
    ]


def test_each_file_is_hashed_once(tmp_path, weights, monkeypatch):
    import clip_sample

    hashed = []
    sha256 = store.sha256
    monkeypatch.setattr(store, "sha256", lambda path: hashed.append(path.name) or sha256(path))
    monkeypatch.chdir(tmp_path)
    assert clip_sample.main(["fox", *QUICK, "-n", "2"]) == 0
    assert sorted(hashed) == ["emoji_64.pth", "emoji_64_clip.pth"]
    record = metadata.read(tmp_path / "out_00001.png")
    cards = store.cards()
    assert record["model_sha256"] == cards["emoji_64"].sha256
    assert record["clip_sha256"] == cards["emoji_64_clip"].sha256
    own = ("--clip-checkpoint", str(store.FOLDER / "emoji_64_clip.pth"))
    assert clip_sample.main(["fox", *QUICK, *own, "-o", "own.png"]) == 0
    again = metadata.read(tmp_path / "own.png")
    assert again["clip_sha256"] == record["clip_sha256"]
