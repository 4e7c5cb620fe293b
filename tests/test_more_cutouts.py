"""More cutouts in the same memory: gradients that are summed batch by batch."""

import numpy as np
import pytest
import torch
from PIL import Image

from CLIP.guidance import MakeCutouts, make_cond_fn, sum_cond_fns
from CLIP.model import CLIP, build_model
from v_diffusion import Job
from v_diffusion.images import metadata
from v_diffusion.images.record import difference
from v_diffusion.job.command import command_of
from v_diffusion.job.hints import hints

QUICK = ("--model", "emoji_64", "--device", "cpu", "--steps", "2", "-cs", "30")


@pytest.fixture(scope="module")
def model(clip_tiny_tensors) -> CLIP:
    return build_model(clip_tiny_tensors).requires_grad_(False)


def gradient(model: CLIP, cutn: int, times: int) -> torch.Tensor:
    """Of two pictures at a scale of 500, by cutn times so many cutouts."""
    generator = torch.Generator().manual_seed(3)
    target = torch.randn(2, model.visual.output_dim, generator=generator)
    x = torch.randn(2, 3, 64, 64, generator=generator).requires_grad_()
    streams = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    cutouts = MakeCutouts(model.visual.input_resolution, cutn)
    cond_fn = make_cond_fn(model, target, 500.0 / times, streams, cutouts)
    return sum_cond_fns([cond_fn], times)(x, torch.ones(2), x.sin())


def test_four_times_four_cutouts_are_sixteen(model):
    whole, parts = gradient(model, 16, 1), gradient(model, 4, 4)
    scale = whole.abs().max()
    torch.testing.assert_close(parts / scale, whole / scale, atol=2e-6, rtol=0)
    # Other places would be something else.
    assert (gradient(model, 8, 1) - whole).abs().max() > 0.05 * scale


def test_one_sum_is_the_gradient_itself(model):
    """To the bit, so that seeds give the pictures that they gave."""
    generator = torch.Generator().manual_seed(3)
    target = torch.randn(2, model.visual.output_dim, generator=generator)
    x = torch.randn(2, 3, 64, 64, generator=generator).requires_grad_()
    streams = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    plain = make_cond_fn(model, target, 500.0, streams)(x, torch.ones(2), x.sin())
    assert torch.equal(gradient(model, 16, 1), plain)


def test_what_is_in_memory_at_once_is_one_batch(model, monkeypatch):
    seen, encode_image = [], model.encode_image
    monkeypatch.setattr(
        model, "encode_image", lambda x: seen.append(len(x)) or encode_image(x), raising=False
    )
    gradient(model, 5, 3)
    assert seen == [10, 10, 10]


def test_a_picture_by_batches_of_cutouts(clip_sample, tmp_path):
    runs = {"a": ("--cutn", "12"), "b": ("--cutn", "3", "--cut-batches", "4"), "c": ("--cutn", "3")}
    for name, options in runs.items():
        done = clip_sample("fox", *QUICK, *options, "-o", f"{name}.png")
        assert done.returncode == 0, done.stderr
    a, b, c = (np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int) for name in runs)
    assert (np.abs(a - b) <= 1).mean() >= 0.999 and np.abs(a - c).max() > 2
    made = metadata.read(tmp_path / "b.png")
    assert (made["cutn"], made["cut_batches"]) == (3, 4)
    assert difference(metadata.read(tmp_path / "c.png"), made) == ("cut batches", "1", "4")
    older = {name: value for name, value in made.items() if name != "cut_batches"}
    assert difference(older, metadata.read(tmp_path / "c.png")) is None
    done = clip_sample("--again", "b.png", "-o", "again.png")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "again.png")), b)


def test_the_option():
    job = Job("a", model="emoji_64", cutn=3, cut_batches=4)
    assert "--cutn 3 --cut-batches 4 --" in command_of(job)
    assert job.batch_key != Job("a", model="emoji_64", cutn=3).batch_key
    plain = Job("a", model="emoji_64", clip_guidance_scale=0)
    (hint,) = hints(plain, {"cut_batches": 2})
    assert hint.startswith("warning: --cut-batches has no effect without prompts and a ")
