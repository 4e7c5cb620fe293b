"""Batches of images: where they go, what they carry, how a run is resumed."""

import json
import random
import re
import shlex
import time
from subprocess import CompletedProcess

import numpy as np
import pytest
import script
from conftest import ROOT, contents
from PIL import Image

from v_diffusion.images import metadata

QUICK = ("--model", "emoji_64", "--device", "cpu", "--steps", "1", "-cs", "0")
PICTURE = ROOT / "tests" / "data" / "e2e" / "prompt.png"


def test_the_pattern_says_where_images_go(clip_sample, tmp_path):
    pattern = "new/folder/{seed}-{i:03}.webp"
    done = clip_sample("a", *QUICK, "-n", "2", "--seed", "7", "--output", pattern)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "new/folder/7-000.webp\nnew/folder/8-001.webp\n"
    for name in done.stdout.split():
        with Image.open(tmp_path / name) as image:
            assert (image.format, image.size) == ("WEBP", (64, 64))
    assert metadata.read(tmp_path / "new/folder/8-001.webp")["seed"] == 8


@pytest.mark.parametrize(
    "pattern, message",
    [
        ("same.png", "all 2 images would have this name; put {i} or {seed} in it"),
        ("{i}.bmp", "the suffix names no image format; use .png, .jpg, .jpeg or .webp"),
        ("{n}.png", "there is no field {n}; use {i}, {seed} or {prompt}"),
        ("file/{i}.png", "can't write to file: File exists"),
    ],
)
def test_a_bad_pattern_is_told_before_anything_is_loaded(clip_sample, tmp_path, pattern, message):
    (tmp_path / "file").write_text("in the way")
    done = clip_sample("a", *QUICK, "-n", "2", "--output", pattern)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("clip_sample.py: --output: ") and message in line


def test_the_command_in_an_image_makes_just_this_image_again(clip_sample, tmp_path):
    prompts = ("-heart: half:0.5", "it's a fox")
    options = ("--images", f"{PICTURE}:0.75", *QUICK, "--eta", "0.5", "-cs", "20", "--steps", "3")
    done = clip_sample(*options, "-n", "3", "--seed", "4", "--", *prompts)
    assert done.returncode == 0, done.stderr
    record = metadata.read(tmp_path / "out_00002.png")
    assert record["seed"] == 6 and record["index"] == 2
    assert record["prompts"][0] == {"text": "-heart: half", "weight": 0.5}
    first = Image.open(tmp_path / "out_00002.png")
    assert first.text["parameters"].startswith("-heart: half:0.5\nit's a fox\nSteps: 3, ")
    assert json.loads(first.text["v-diffusion"]) == record

    program, *arguments = shlex.split(record["command"])
    assert program == "./clip_sample.py"
    done = clip_sample(*arguments)
    assert done.returncode == 0, done.stderr
    again = Image.open(tmp_path / "out_00000.png")
    assert np.array_equal(np.asarray(again), np.asarray(first))


def test_no_metadata(clip_sample, tmp_path):
    assert clip_sample("a", *QUICK, "--no-metadata").returncode == 0
    assert Image.open(tmp_path / "out_00000.png").info == {"srgb": 0}


def test_resume_makes_only_what_is_missing(clip_sample, tmp_path):
    run = ("a fox", *QUICK, "-n", "5", "-bs", "2")
    assert clip_sample(*run).returncode == 0
    whole = contents(tmp_path)
    (tmp_path / "out_00001.png").unlink()
    damaged = tmp_path / "out_00003.png"
    damaged.write_bytes(whole["out_00003.png"][:-100])
    kept = (tmp_path / "out_00000.png").stat().st_mtime_ns

    done = clip_sample(*run, "--resume")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"out_{i:05}.png\n" for i in range(5))
    assert contents(tmp_path) == whole
    assert (tmp_path / "out_00000.png").stat().st_mtime_ns == kept


def test_resume_of_another_run_names_the_difference(clip_sample, tmp_path):
    assert clip_sample("a", *QUICK).returncode == 0
    before = contents(tmp_path)
    for words, message in (
        (("a", "--steps", "2"), "steps is 1 there and 2 here"),
        (("a", "--seed", "1"), "seed is 0 there and 1 here"),
        (("a", "--eta", "1"), "eta is 0.0 there and 1.0 here"),
        (("fox",), 'list of prompts is ["a"] there and ["fox"] here'),
    ):
        done = clip_sample(*QUICK, "--resume", *words)
        assert (done.returncode, done.stdout) == (2, "")
        last = done.stderr.splitlines()[-1]
        assert "out_00000.png has other settings" in last and message in last
    assert contents(tmp_path) == before


def test_a_run_killed_thrice_ends_with_the_same_files(clip_sample, tmp_path):
    run = ("a red heart", *QUICK, "--eta", "1", "-n", "40", "-bs", "2")
    through, killed = tmp_path / "through", tmp_path / "killed"
    done = clip_sample(*run, "--output", "through/{i}.png")
    assert done.returncode == 0, done.stderr
    rng = random.Random(0)
    for _ in range(3):
        running = script.start(*run, "--output", "killed/{i}.png", "--resume", cwd=tmp_path)
        # Any moment from its first new image on, so that each try gets a bit further.
        there = len(list(killed.glob("*.png")))
        running.wait_for(lambda: len(list(killed.glob("*.png"))) > there)  # noqa: B023
        time.sleep(rng.random() * 0.02)
        running.process.kill()
        running.process.join()
    assert 0 < len(list(killed.glob("*.png"))) < 40
    done = clip_sample(*run, "--output", "killed/{i}.png", "--resume")
    assert done.returncode == 0, done.stderr
    assert contents(killed) == contents(through)


def test_a_full_disk_ends_with_a_message(tmp_path):
    """No file may be longer than 500 bytes: an image is, and a try at writing is not."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))"
    done = script.start("a", *QUICK, "-n", "2", cwd=tmp_path, code=limit).wait()
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert "can't write out_00000.png: File too large" in last
    assert not list(tmp_path.iterdir())


def with_memory(free: int | None, *arguments: str, cwd) -> CompletedProcess:
    """Runs the script where so many bytes seem free, and 1 GiB is."""
    code = (
        "import resource; from v_diffusion.studio import memory\n"
        f"memory.available = lambda _: {free}\n"
        "with open('/proc/self/statm') as file: pages = int(file.read().split()[0])\n"
        "limit = pages * resource.getpagesize() + 2**30\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))"
    )
    return script.start("a", *QUICK, *arguments, cwd=cwd, code=code).wait()


@pytest.mark.parametrize("scale, fits", [(0, 2110), (1, 275)])
def test_a_batch_too_large_is_told_before_it_is_begun(tmp_path, scale, fits):
    many = ("-n", "3000", "-bs", "3000", "-cs", str(scale))
    done = with_memory(4 * 10**9, *many, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    told = re.fullmatch(
        r".*: --batch-size 3000: needs about [\d.]+ GB of memory, and "
        r"4.0 GB are free; use at most (\d+)",
        done.stderr.splitlines()[-1],
    )
    assert told and int(told[1]) == fits, done.stderr
    assert not list(tmp_path.iterdir())


def test_out_of_memory_says_what_would_help(tmp_path):
    """Where the memory is another's by then."""
    done = with_memory(None, "-n", "200", "-bs", "200", "-cs", "1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    advice = "a smaller --batch-size, --checkpointing, --clip-guidance-scale 0, a smaller --size"
    assert last.endswith(f": out of memory on cpu; try {advice}"), last
    assert not list(tmp_path.iterdir())


def test_a_lost_folder_does_not_lose_the_images_before(tmp_path):
    """The second image's folder goes away while the batch is made."""
    words = ("a", *QUICK, "-n", "3", "-bs", "3", "--output", "{i}/a.png")
    running = script.start(*words, cwd=tmp_path)
    running.wait_for((tmp_path / "2").exists)
    (tmp_path / "1").rmdir()
    (tmp_path / "1").write_text("in the way")
    done = running.wait()
    assert (done.returncode, done.stdout) == (1, "0/a.png\n")
    assert "can't write 1/a.png: Not a directory" in done.stderr.splitlines()[-1]
    assert Image.open(tmp_path / "0/a.png").size == (64, 64)
