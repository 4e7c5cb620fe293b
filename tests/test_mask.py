"""Masks: a part of a picture is drawn anew, and the rest kept."""

import json

import numpy as np
import pytest
import torch
from closed_form import cond_fn, model, schedule, start
from PIL import Image

from diffusion import sampling, utils
from diffusion.guidance import make_mask_cond_fn, make_mask_model_fn
from diffusion.methods import METHODS, STOCHASTIC
from v_diffusion import Job, Studio
from v_diffusion.images import metadata
from v_diffusion.images.inputs import open_inputs
from v_diffusion.images.record import difference
from v_diffusion.job.job import JobError
from v_diffusion.shell.errors import UserError

SOME = {"model": "emoji_64", "steps": 3, "cutn": 2, "starting_timestep": 1}
INIT, MASK = "init.png", "mask.png"


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio("cpu")


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch) -> np.ndarray:
    """A picture with all grey levels in its black half and in its white half, and the mask."""
    monkeypatch.chdir(tmp_path)
    levels = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    Image.fromarray(levels).save(INIT)
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 255
    Image.fromarray(mask).save(MASK)
    return levels


def task() -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Noise, a model's arguments, pictures, and starts: 0 to the left, 0.7 in the middle."""
    x, extra_args = start(2)
    starts = torch.ones(2, 1, 16, 16)
    starts[..., :4], starts[..., 4:8] = 0, 0.7
    return x, extra_args, torch.rand(2, 3, 16, 16) * 2 - 1, starts


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_the_kept_part_is_the_picture_at_each_steps_noise(method, guided):
    """With the sampler's own noise: where a method draws no other, with that of the beginning."""
    x, extra_args, inits, starts = task()
    steps, seen = schedule(8), []
    alpha, sigma = utils.t_to_alpha_sigma(steps[0])
    eta = float(method in STOCHASTIC)
    guidance = make_mask_cond_fn(cond_fn, starts) if guided else None
    masked = make_mask_model_fn(model, inits, starts)
    begun = inits * alpha + x * sigma
    out = sampling.run_method(
        method, masked, begun, steps, eta, extra_args, guidance, callback=seen.append
    )
    assert len(seen) == 8
    for info in seen:
        alpha, sigma = utils.t_to_alpha_sigma(info["t"])
        kept = (info["t"] >= starts).expand_as(x)
        torch.testing.assert_close(info["pred"][kept], inits[kept], atol=2e-4, rtol=0)
        noisy = info["x"] - inits * alpha
        if eta:
            assert abs((noisy / sigma)[kept].std() - 1) < 0.15
        else:
            torch.testing.assert_close(noisy[kept], (x * sigma)[kept], atol=2e-4, rtol=0)
    free = (starts == 1).expand_as(x)
    assert (out - inits)[free].abs().mean() > 0.1
    if method not in ("prk", "pie"):  # which evaluate the model at t = 0, too
        kept = (starts == 0).expand_as(x)
        torch.testing.assert_close(out[kept], inits[kept], atol=2e-4, rtol=0)


def test_grey_is_a_time():
    """From 0.7 on a pixel's picture is the model's own."""
    x, extra_args, inits, starts = task()
    masked = make_mask_model_fn(model, inits, starts)
    for time, free in ((0.7, 8), (0.6999, 4), (1.0, 16)):
        t = torch.full([2], time)
        same = masked(x, t, **extra_args) == model(x, t, **extra_args)
        assert same[..., free:].all() and same[..., :free].float().mean() < 0.05


@pytest.mark.parametrize("method", METHODS)
def test_a_white_mask_changes_no_bit(method):
    x, extra_args, inits, _ = task()
    masked = make_mask_model_fn(model, inits, torch.ones(2, 1, 16, 16))
    guidance = make_mask_cond_fn(cond_fn, torch.ones(2, 1, 16, 16))
    for one, other in ((None, None), (cond_fn, guidance)):
        rest = x, schedule(6), 0.0, extra_args
        plain = sampling.run_method(method, model, *rest, one)
        assert torch.equal(sampling.run_method(method, masked, *rest, other), plain)


@pytest.mark.parametrize("method", METHODS)
def test_kept_pixels_come_out_as_they_were(studio, files, method):
    job = Job("red apple", init=INIT, mask=MASK, method=method, clip_guidance_scale=0, **SOME)
    drawn = np.asarray(studio.draw(job))
    assert set(files[32:].flatten()) == set(range(256))
    np.testing.assert_array_equal(drawn[32:], files[32:])
    assert (drawn[:32] != files[:32]).mean() > 0.9


@pytest.mark.parametrize("scale", [0, 20])
def test_a_batch_draws_what_each_draws_alone(studio, files, scale):
    Image.new("L", (8, 8), 140).save("grey.png")
    more = SOME | {"clip_guidance_scale": scale, "eta": 1.0, "init": INIT}
    jobs = [Job("a", mask=MASK, **more), Job("b", mask="grey.png", seed=3, **more)]
    together = studio.draw_batch(jobs, [open_inputs(job) for job in jobs])
    for job, picture in zip(jobs, together):
        alone = np.asarray(studio.draw(job)).astype(int)
        assert (np.abs(alone - np.asarray(picture)) <= 1).mean() >= 0.999


def test_a_white_mask_draws_the_picture_of_no_mask(studio):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save("white.png")  # transparent is white
    job = Job("red apple", init=INIT, **SOME)
    masked = Job("red apple", init=INIT, mask="white.png", **SOME)
    np.testing.assert_array_equal(*map(np.asarray, (studio.draw(job), studio.draw(masked))))
    assert job.batch_key != masked.batch_key


def test_a_mask_is_scaled_and_cropped_as_the_picture_is(studio, files):
    """Twice as large, and so wide that half of it juts out."""
    wide = np.zeros((128, 256), np.uint8)
    wide[:64] = 255
    wide[:, :64] = wide[:, 192:] = 77
    Image.fromarray(wide).save("wide.png")
    drawn = np.asarray(studio.draw(Job("red apple", init=INIT, mask="wide.png", **SOME)))
    np.testing.assert_array_equal(drawn[40:, 8:56], files[40:, 8:56])
    assert (drawn[:24] != files[:24]).mean() > 0.9


def test_a_mask_needs_a_picture(studio):
    with pytest.raises(JobError, match="--mask: there is no picture to keep a part of; give one"):
        Job("a", mask=MASK, **SOME | {"starting_timestep": None})
    with pytest.raises(UserError, match="mask none.png: there is no such file"):
        studio.draw(Job("a", init=INIT, mask="none.png", **SOME))


def test_all_three_options_are_in_the_record(clip_sample):
    words = "a --model emoji_64 --steps 3 --cutn 2 -st 1 --init init.png --mask mask.png"
    words += " --guide-between 0.2 0.95 --threshold 0.99"
    done = clip_sample(*words.split())
    assert done.returncode == 0, done.stderr
    record = metadata.read("out_00000.png")
    assert record["mask"]["image"] == MASK and len(record["mask"]["sha256"]) == 64
    assert (record["guide_between"], record["threshold"]) == ([0.2, 0.95], 0.99)
    with Image.open("out_00000.png") as image:
        line, first = image.text["parameters"].splitlines()[-1], np.asarray(image)
    assert "Guide between: 0.2 0.95, Threshold: 0.99" in line and "Mask: mask.png, Mask h" in line
    assert record["command"].endswith(
        "--starting-timestep 1.0 --mask mask.png --clip-guidance-scale 50.0 --cutn 2 "
        "--guide-between 0.2 0.95 --threshold 0.99 -- a"
    )

    done = clip_sample("--again", "out_00000.png", "-o", "again.png")
    assert done.returncode == 0, done.stderr
    assert "--again: out_00000.png names --mask mask.png\n" in done.stderr
    line = {"prompts": "a", "guide-between": [0.2, 0.95], "threshold": 0.99, "mask": MASK}
    line |= {"starting-timestep": 1, "init": INIT, "steps": 3, "cutn": 2, "output": "line.png"}
    with open("jobs", "w") as file:
        file.write(json.dumps(line))
    done = clip_sample("--jobs", "jobs", "--model", "emoji_64")
    assert done.returncode == 0, done.stderr
    for name in ("again.png", "line.png"):
        np.testing.assert_array_equal(np.asarray(Image.open(name)), first)

    assert "image 1 of 1" not in clip_sample(*words.split(), "--resume").stderr
    Image.new("L", (64, 64), 9).save(MASK)
    done = clip_sample(*words.split(), "--resume")
    assert done.returncode == 2 and "mask" in done.stderr.splitlines()[-1]
    for name in ("mask", "guide_between", "threshold"):  # which older records lack
        older = {key: value for key, value in record.items() if key != name}
        assert difference(older, record)[0] == name.replace("_", " ")
