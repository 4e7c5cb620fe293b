"""How fp16 rounds what a GPU would compute in it, on the CPU: pictures and gradients stay."""

from collections.abc import Sequence
from contextlib import nullcontext

import pytest
import torch
from fake_cuda import Fp16
from torch import Tensor

from CLIP import clip, guidance, prompts
from diffusion import noise, utils
from v_diffusion.job.job import Job
from v_diffusion.studio.models import Models, load_model
from v_diffusion.studio.sample import sample
from v_diffusion.studio.targets import Targets

CPU = torch.device("cpu")
LARGEST = torch.finfo(torch.float16).max


@pytest.fixture(scope="module")
def on_cpu() -> Models:
    """emoji_64 in fp32, each convolution one operator."""
    clip_model, _ = clip.load("emoji_64_clip", CPU)
    model = load_model("emoji_64", None, CPU)
    return Models(model, clip_model.requires_grad_(False))


def targets(models: Models, texts: Sequence[str]) -> Tensor:
    return torch.cat([prompts.encode_text(models.clip, text, CPU) for text in texts])


def far_from_overflow(fp16: Fp16) -> bool:
    """Whether the largest numbers are less than an eighth of fp16's largest, 65504.

    They were 1800 forwards, in a convolution, and 180 backwards at a scale of 500.
    """
    return max(fp16.largest.values()) < LARGEST / 8


@pytest.mark.parametrize("scale", [0.0, 500.0])
def test_pictures_in_fp16_are_those_in_fp32(on_cpu, scale):
    jobs = [
        Job(["fox"], model="emoji_64", method="ddim", steps=8, clip_guidance_scale=scale, seed=0)
    ]
    target = targets(on_cpu, ["fox"])
    fp16 = Fp16(on_cpu.model, on_cpu.clip.visual)
    expected = sample(jobs, on_cpu, Targets(target), CPU, disable=True)
    with fp16.rounding():
        found = sample(jobs, on_cpu, Targets(target), CPU, disable=True)
    grey_levels = (found.clamp(-1, 1) - expected.clamp(-1, 1)).abs() * 127.5
    # Over several seeds and methods it was 0.03 to 0.1 on average, and under 2 for all pixels but
    # a thousandth.
    assert grey_levels.mean() < 0.3 and grey_levels.flatten().quantile(0.999) < 4
    assert found.isfinite().all() and far_from_overflow(fp16)


@pytest.mark.parametrize("t", [0.99, 0.02])
def test_the_gradient_in_fp16_is_that_in_fp32(on_cpu, t):
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    times = torch.full((2,), t)
    target = targets(on_cpu, ("red apple", "fox"))
    extra_args = on_cpu.model.conditions(target)
    fp16 = Fp16(on_cpu.model, on_cpu.clip.visual)
    found = []
    for context in (nullcontext(), fp16.rounding()):
        cond_fn = guidance.make_cond_fn(on_cpu.clip, target, 500.0, noise.streams([1, 2]))
        with context:
            start = x.clone().requires_grad_()
            v = on_cpu.model(start, times, **extra_args)
            alpha, sigma = (utils.append_dims(a, 4) for a in utils.t_to_alpha_sigma(times))
            grad = cond_fn(start, times, start * alpha - v * sigma, **extra_args)
        found.append((v.detach(), grad))
    (v, grad), (v_16, grad_16) = found
    # 0.001 and 0.02 were the most at any of five times and at scales of 50, 500 and 5000.
    assert (v_16 - v).norm() < 5e-3 * v.norm()
    assert (grad_16 - grad).norm() < 0.1 * grad.norm()
    assert far_from_overflow(fp16)
