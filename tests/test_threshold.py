"""Thresholding: pictures of each step brought back into range."""

import pytest
import torch
from closed_form import cond_fn, model, schedule, start

from diffusion import sampling, utils
from diffusion.guidance import make_pred_model_fn, threshold
from diffusion.methods import METHODS
from v_diffusion.job.job import Job, JobError


def test_at_1_it_is_a_clamp():
    pred = torch.randn(3, 3, 8, 8) * 2
    assert torch.equal(threshold(pred, 1), pred.clamp(-1, 1))


def test_each_picture_has_its_own_percentile():
    """0.7 of 10 values are up to the seventh: 2.1 in the first picture, 0.7 in the second."""
    sizes = torch.arange(1, 11) * torch.tensor([[0.3], [0.1]])
    pred = (sizes * torch.tensor([1, -1] * 5)).view(2, 1, 2, 5)
    first, second = threshold(pred, 0.7).abs().flatten(1)
    torch.testing.assert_close(first, (sizes[0] / 2.1).clamp(max=1))
    assert torch.equal(second, sizes[1].clamp(max=1))
    assert torch.equal(threshold(pred, 0), pred.clamp(-1, 1))
    torch.testing.assert_close(threshold(pred, 0.95)[0], pred[0] / 3)


def test_what_is_in_range_is_left_as_it_is():
    x, extra_args = start(2)
    x, t = x / 9, torch.tensor([0.3, 0.0])
    changed = make_pred_model_fn(model, lambda pred, t: threshold(pred, 0.99))
    assert torch.equal(changed(x, t, **extra_args), model(x, t, **extra_args))


def test_v_implies_the_picture():
    x, extra_args = start(3)
    t = torch.tensor([1.0, 0.4, 0.0])
    v = make_pred_model_fn(model, lambda pred, t: threshold(pred, 1))(x, t, **extra_args)
    alpha, sigma = (utils.append_dims(a, 4) for a in utils.t_to_alpha_sigma(t))
    own = model(x, t, **extra_args)
    before, after = x * alpha - own * sigma, x * alpha - v * sigma
    assert before[:2].abs().max() > 1.1
    torch.testing.assert_close(after[:2], before[:2].clamp(-1, 1), atol=1e-5, rtol=0)
    assert torch.equal(v[2], own[2])  # at t = 0 pred is x, whatever v is


@pytest.mark.parametrize("method", METHODS)
def test_guidance_sees_the_picture_in_range(method):
    seen = []

    def spy(x, t, pred, **extra_args):
        seen.append((t[0].item(), pred.detach().abs().max().item()))
        return cond_fn(x, t, pred, **extra_args)

    x, extra_args = start(2)
    changed = make_pred_model_fn(model, lambda pred, t: threshold(pred, 1))
    out = sampling.run_method(method, changed, x * 3, schedule(5), 0.0, extra_args, spy)
    assert out.isfinite().all() and len(seen) >= 5
    assert all(largest <= 1 + 1e-5 for t, largest in seen if t > 0)


def test_it_is_a_part_of_the_job():
    job = Job("a fox", model="emoji_64", threshold="0.99")
    assert job.threshold == 0.99
    assert job.batch_key != Job("a fox", model="emoji_64").batch_key
    with pytest.raises(JobError, match="--threshold: 1.5 is not a number from 0 to 1"):
        Job("a fox", model="emoji_64", threshold=1.5)
    with pytest.raises(JobError, match="--threshold is an option of clip_sample.py and cfg_sam"):
        Job("a", init="a.png", model="emoji_64", script="cfg_modify_image", threshold=1)
