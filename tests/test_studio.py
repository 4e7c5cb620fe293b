"""The Python API: a Job, a Studio, a picture."""

import os
from pathlib import Path

import numpy as np
import pytest
import script
import torch
from conftest import ROOT
from PIL import Image

from diffusion import noise
from diffusion.methods import METHODS
from v_diffusion import Job, Studio
from v_diffusion.images.inputs import Inputs, open_inputs
from v_diffusion.shell.errors import RunError, UserError
from v_diffusion.studio.targets import make_targets
from v_diffusion.weights import store, tensors

QUICK = {"model": "emoji_64", "steps": 2, "clip_guidance_scale": 5}
CFG = {"model": "emoji_64", "method": "ddim", "steps": 1}
PICTURE = str(ROOT / "tests" / "data" / "e2e" / "prompt.png")


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio("cpu")


def inputs(*jobs: Job) -> list[Inputs]:
    return [open_inputs(job) for job in jobs]


def test_a_picture_is_the_scripts(studio, clip_sample, tmp_path):
    picture = studio.draw(Job(["red apple", "fog:-0.5"], seed=3, images=[PICTURE], **QUICK))
    options = ("--model", "emoji_64", "--device", "cpu", "--steps", "2", "-cs", "5", "--seed", "3")
    done = clip_sample("red apple", "fog:-0.5", "--images", PICTURE, *options)
    assert done.returncode == 0, done.stderr
    drawn = np.asarray(Image.open(tmp_path / "out_00000.png"))
    np.testing.assert_array_equal(np.asarray(picture), drawn)


def test_guidance_in_inference_mode_and_in_autocast(studio):
    job = Job("fox", init=Path(PICTURE), **QUICK)
    with torch.inference_mode():
        found = Studio("cpu").draw(job)
    assert found.tobytes() == studio.draw(job).tobytes()
    with torch.autocast("cpu", torch.bfloat16):
        assert studio.draw(job).tobytes() == found.tobytes()


@pytest.mark.parametrize(
    "name, keep, why",
    [
        (
            "text_projection",
            (slice(None), slice(100)),
            "its embeddings don't have the 256 dimensions",
        ),
        (
            "token_embedding.weight",
            slice(100),
            "its vocabulary or text length doesn't fit the tokenizer",
        ),
        (
            "positional_embedding",
            slice(10),
            "its vocabulary or text length doesn't fit the tokenizer",
        ),
    ],
)
def test_a_clip_of_other_sizes(tmp_path, name, keep, why):
    found = tensors.read(store.FOLDER / "emoji_64_clip.pth")
    found[name] = found[name][keep].clone()
    if name == "text_projection":
        found["visual.proj"] = found["visual.proj"][keep].clone()
    torch.save(found, tmp_path / "clip.pth")
    with pytest.raises(UserError, match=f"clip.pth: {why}.*; give another file"):
        Studio("cpu").draw(Job("fox", clip_checkpoint=str(tmp_path / "clip.pth"), **QUICK))


def test_a_model_is_loaded_once(studio):
    job = Job("fox", **QUICK)
    assert studio.load(job) is studio.load(Job("owl", seed=5, **QUICK))
    assert studio.load(job).model is studio.load(job).model


def test_a_text_is_encoded_once_and_an_image_for_each_seed(studio):
    models, asked = studio.load(Job("fox", **QUICK)), []

    def target(job: Job) -> torch.Tensor:
        def encode_text(clip, text: str) -> torch.Tensor:
            asked.append(text)
            return studio._encode_text(clip, text)

        return make_targets([job], inputs(job), models, encode_text, studio.device).embeds

    before = studio._encode_text.cache_info().misses
    assert torch.equal(target(Job("fox", **QUICK)), target(Job("fox", seed=1, **QUICK)))
    assert asked == ["fox"] * 2 and studio._encode_text.cache_info().misses <= before + 1
    one, two = (target(Job(images=PICTURE, seed=seed, **QUICK)) for seed in (0, 1))
    assert not torch.equal(one, two)
    assert torch.equal(one, target(Job(images=PICTURE, **QUICK)))


def test_a_batch_of_different_jobs_guides_each_by_its_own_scale(studio):
    """A scale of 1e-30 is none, and a large one beside it changes nothing of that."""
    scales = (1e-30, 300.0)
    jobs = [Job("fox", seed=1, **QUICK | {"clip_guidance_scale": scale}) for scale in scales]
    weak, strong = (np.asarray(p).astype(int) for p in studio.draw_batch(jobs, inputs(*jobs)))
    plain = np.asarray(studio.draw(Job("fox", seed=1, **QUICK | {"clip_guidance_scale": 0})))
    assert (np.abs(weak - plain) <= 1).mean() >= 0.999
    assert np.abs(strong - plain).max() > 1


def test_the_callback_sees_every_step(studio):
    job, seen = Job("fox", **QUICK), []
    studio.draw_batch([job], inputs(job), lambda info: seen.append((info["i"], info["pred"].shape)))
    assert seen == [(0, (1, 3, 64, 64)), (1, (1, 3, 64, 64))]


def test_nothing_is_drawn_from_torchs_own_stream(studio):
    before = torch.get_rng_state()
    studio.draw(Job("fox", eta=1, **QUICK))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(noise.streams([1, 2])) == 2


def test_what_goes_wrong(studio, tmp_path):
    with pytest.raises(UserError, match="there is no 'abacus' here; use one of .*cpu"):
        Studio("abacus")
    with pytest.raises(UserError, match="image prompt none.png: there is no such file"):
        studio.draw(Job(images="none.png", **QUICK))
    broken = tmp_path / "broken.pth"
    broken.write_text("")
    for option in ("checkpoint", "clip_checkpoint"):
        with pytest.raises(UserError, match="broken.pth: damaged, or not a checkpoint"):
            studio.draw(Job("a", **{option: str(broken)}, **QUICK))
    with pytest.raises(TypeError, match=r"draw takes a Job, as in .*, not 'fox'"):
        studio.draw("fox")


@pytest.mark.parametrize("method", METHODS)
def test_a_guidance_scale_too_large_gives_no_picture(studio, method):
    job = Job("a", cutn=1, method=method, **QUICK | {"clip_guidance_scale": 1e30})
    with pytest.raises(RunError, match=r"numbers that are not finite, or enormous: .* scale"):
        studio.draw(job)


@pytest.mark.parametrize(
    "more",
    [
        {"script": "cfg_sample", "method": "ddim", "steps": 1},  # 1e30, which is finite
        {"script": "cfg_sample", "method": "ddim", "steps": 3},
        {"script": "cfg_modify_image", "init": PICTURE, "method": "ddim", "steps": 3},
        {"script": "cfg_modify_image", "init": PICTURE, "method": "plms", "steps": 3},
    ],
)
def test_a_weight_too_large_gives_no_picture(studio, more):
    with pytest.raises(RunError, match="numbers that are not finite, or enormous"):
        studio.draw(Job("a:1e30", model="emoji_64", **more))


def test_what_is_no_picture_takes_none_beside_it_along(studio, tmp_path, monkeypatch):
    """Of one batch: of a job file, whose lines are each their own mistake, and of one command."""
    jobs = [Job("a", script="cfg_sample", **CFG), Job("a:1e30", script="cfg_sample", **CFG)]
    good, none = studio.draw_batch(jobs, inputs(*jobs))
    assert none is None and good is not None
    monkeypatch.chdir(tmp_path)
    Path("jobs").write_text('{"prompts": ["a:1e30"]}\na\n')
    words = ["--model", "emoji_64", "--steps", "1", "--method", "ddim", "-bs", "2"]
    done = script.start(*words, "--jobs", "jobs", cwd=tmp_path, script="cfg_sample.py").wait()
    assert (done.returncode, done.stdout) == (1, "out_00001.png\n")
    assert "jobs:1: out_00000.png: the picture has numbers that are not finite" in done.stderr
    assert done.stderr.splitlines()[-1] == "cfg_sample.py: not drawn: jobs:1"
    done = script.start(*words, "a:1e30", cwd=tmp_path, script="cfg_sample.py").wait()
    assert (done.returncode, done.stdout) == (1, "")
    text = "cfg_sample.py: out_00000.png: the picture has numbers that are not finite"
    assert done.stderr.splitlines()[-1].startswith(text)
    assert sorted(os.listdir()) == ["jobs", "out_00001.png"]


def test_a_long_text_is_told_once(studio, caplog):
    for seed in range(2):
        studio.draw(Job("owl " * 90, seed=seed, **QUICK))
    assert caplog.text.count("warning: a prompt exceeds CLIP's 77 tokens") == 1
