"""Films of pictures that come out of the noise."""

import io
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import script
import torch
from PIL import Image

from diffusion import utils
from v_diffusion.images.output import film_of
from v_diffusion.run.film import Film

QUICK = ("--model", "emoji_64", "--device", "cpu", "--steps", "4")
CLIP = (*QUICK, "-cs", "0")


def frames(file: Path | io.BytesIO) -> list[tuple[np.ndarray, float]]:
    """The frames of a film, and the milliseconds of each."""
    with Image.open(file) as image:
        found = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            levels = np.asarray(image.convert("RGB")).astype(int)
            found.append((levels, image.info.get("duration", 0)))
        return found


def preds(n: int) -> list[torch.Tensor]:
    """Of two pictures in n steps, which get lighter."""
    return [torch.full((2, 3, 4, 4), k / n * 2 - 1) + torch.tensor([0, 0.5]).view(2, 1, 1, 1)
            for k in range(n)]  # fmt: skip


def watched(film: Film, steps: list[torch.Tensor]) -> Film:
    for i, pred in enumerate(steps):
        film({"i": i, "of": len(steps), "pred": pred})
    return film


@pytest.mark.parametrize(
    "of, kept",
    [
        (1, []),
        (5, [0, 1, 2, 3]),
        (50, list(range(49))),
        (100, list(range(1, 99, 2))),
        (1000, list(range(19, 980, 20))),
        (60, [k for k in range(59) if k % 6 != 0]),
    ],
)
def test_frames_are_about_fifty_evenly_over_the_steps(of, kept):
    film = watched(Film([0, 1]), preds(of))
    for number in (0, 1):
        found = [np.asarray(Image.open(io.BytesIO(frame))) for frame in film.frames(number)]
        expected = [np.asarray(utils.to_pil_image(preds(of)[k][number])) for k in kept]
        np.testing.assert_array_equal(found, expected)


def test_only_what_is_wanted_is_kept():
    film = watched(Film([1]), preds(3))
    assert len(film.frames(1)) == 2
    with pytest.raises(KeyError):
        film.frames(0)
    assert watched(Film([]), preds(3)).frames(0) == []


def test_a_step_does_not_wait_for_its_frame(monkeypatch):
    go, compress = threading.Event(), Film._compress
    monkeypatch.setattr(Film, "_compress", lambda *args: go.wait(60) and compress(*args))
    film = watched(Film([0]), preds(9))
    go.set()
    assert len(film.frames(0)) == 8


@pytest.mark.parametrize("suffix, off", [(".png", 0), (".webp", 0), (".gif", 8)])
@pytest.mark.parametrize("n", [1, 6])
def test_a_film_ends_with_the_picture(suffix, off, n):
    ramp = np.add.outer(np.arange(32) * 3, np.arange(32) * 3)[..., None] + np.arange(3) * 20
    pictures = [Image.fromarray((ramp + k).astype(np.uint8)) for k in range(n)]
    files = [io.BytesIO() for _ in pictures[1:]]
    for file, picture in zip(files, pictures):
        picture.save(file, "PNG")
    content = film_of([file.getvalue() for file in files], pictures[-1], Path(f"a{suffix}"))
    found = frames(io.BytesIO(content))
    assert np.abs(found[-1][0] - np.asarray(pictures[-1]).astype(int)).max() <= off
    if n > 1:
        assert [shown for _, shown in found] == [80] * 5 + [2000]
        for (levels, _), picture in zip(found, pictures):
            assert np.abs(levels - np.asarray(picture).astype(int)).max() <= off


def test_a_run_with_films(clip_sample, tmp_path):
    run = ("fox", *QUICK, "-cs", "20", "--cutn", "2", "--eta", "1", "-n", "2", "-bs", "2")
    assert clip_sample(*run).returncode == 0
    plain = [(tmp_path / f"out_0000{i}.png").read_bytes() for i in range(2)]
    done = clip_sample(*run, "--film")
    assert (done.returncode, done.stdout) == (0, "out_00000.png\nout_00001.png\n"), done.stderr
    assert sorted(os.listdir(tmp_path)) == [
        f"out_0000{i}.png{suffix}" for i in range(2) for suffix in ("", ".film.png")
    ]
    for i in range(2):
        path = tmp_path / f"out_0000{i}.png"
        assert path.read_bytes() == plain[i]
        found = frames(tmp_path / f"{path.name}.film.png")
        assert [shown for _, shown in found] == [80, 80, 80, 2000]
        np.testing.assert_array_equal(found[-1][0], np.asarray(Image.open(path)))
        # The sketch of the first step is another picture.
        assert np.abs(found[0][0] - found[-1][0]).mean() > 2


def test_films_of_the_other_scripts(tmp_path):
    for name, words in (
        ("cfg_sample", ("fox", "-o", "a.webp", "--film", "films/{seed}.webp", "--seed", "7")),
        ("cfg_modify_image", ("a.webp", "owl", "-o", "b.png", "--film", "b.gif")),
    ):
        options = (*QUICK, "--method", "ddim")
        done = script.start(*words, *options, cwd=tmp_path, script=f"{name}.py").wait()
        assert done.returncode == 0, done.stderr
    film, modified = frames(tmp_path / "films" / "7.webp"), frames(tmp_path / "b.gif")
    np.testing.assert_array_equal(film[-1][0], np.asarray(Image.open(tmp_path / "a.webp")))
    # There and back again: four steps each way, fewer where two look the same.
    assert 4 < len(modified) <= 8 and len(film) == 4 and modified[-1][1] >= 2000
    last = np.asarray(Image.open(tmp_path / "b.png")).astype(int)
    assert np.abs(modified[-1][0] - last).mean() < 6


def test_what_is_there_stays(clip_sample, tmp_path):
    run = ("fox", *CLIP, "--film", "{i}.film.webp", "-o", "{i}.png")
    (tmp_path / "0.film.webp").write_bytes(b"older")
    assert clip_sample(*run, "--no-clobber").returncode == 0
    assert (tmp_path / "0.film.webp").read_bytes() == b"older"
    os.remove(tmp_path / "0.film.webp")
    # A picture that is there is not drawn again for the sake of its film.
    done = clip_sample(*run, "--resume", "-n", "2")
    assert (done.returncode, done.stdout) == (0, "0.png\n1.png\n"), done.stderr
    assert sorted(os.listdir(tmp_path)) == ["0.png", "1.film.webp", "1.png"]
    # But where there is a picture of such a run there is its film, which is written first.
    os.remove(tmp_path / "1.png")
    assert clip_sample(*run, "--resume", "-n", "2").returncode == 0
    done = clip_sample("--again", "0.png", "--film", "-o", "again.png")
    assert done.returncode == 0, done.stderr
    last = frames(tmp_path / "again.png.film.png")[-1][0]
    np.testing.assert_array_equal(last, np.asarray(Image.open(tmp_path / "0.png")))


def test_films_in_a_job_file(clip_sample, tmp_path):
    lines = [{"prompts": "fox", "film": True}, {"prompts": "owl", "film": "owl.gif"},
             {"prompts": "owl", "film": False}, {"prompts": "owl", "film": "a.jpg"},
             {"prompts": "owl", "film": 3}, {"prompts": "owl", "film": "owl.gif"}]  # fmt: skip
    (tmp_path / "jobs").write_text("\n".join(map(json.dumps, lines)))
    done = clip_sample("--jobs", "jobs", *CLIP, "-bs", "2", "-o", "{i}.png")
    assert (done.returncode, done.stdout) == (2, "0.png\n1.png\n2.png\n")
    for line in (
        "jobs:4: --film: a.jpg: the suffix names no image format; use .png, .webp or .gif\n",
        "jobs:5: --film: 3 is not a text",
        "jobs:6: --film: owl.gif: images 1 and 5 would both be owl.gif; put {i} or {seed} in it",
    ):
        assert line in done.stderr
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {"jobs", "0.png", "1.png", "2.png", "0.png.film.png", "owl.gif"}


@pytest.mark.parametrize(
    "words, message",
    [
        (["--film", "x.png", "-n", "2"], "--film: x.png: all 2 images would have this name; put"),
        (["--film", "{k}.png"], "--film: {k}.png: there is no field {k}; use {i}, {seed} or {pro"),
        (["--film", "in.png", "--init", "in.png"], "in.png is an input picture; give another name"),
        (["--film", "a fox"], "use .png, .webp or .gif; put prompts before the options, or after"),
        (["--film", "x.png", "-o", "x.png"], "x.png: an image and its film would both be x.png; "),
    ],
)  # fmt: skip
def test_mistakes(clip_sample, tmp_path, words, message):
    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")
    done = clip_sample("fox", *CLIP, *words)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert message in line
    assert os.listdir(tmp_path) == ["in.png"]
