"""DDPM and DDIM sampling of v-objective models, and every sampler by name.

What the samplers have in common:

    model: see `diffusion.guidance`.
    x: the noise, or the noisy pictures, at the first time, [B, C, H, W], of any floating dtype. The
        model gets t in this dtype, v is cast to it, and the pictures are of it.
    steps: [N] falling times on x's device, best in fp32 or fp64 whatever x is.
    extra_args: keyword arguments of the model.
    callback: called in each step with a dict of x, i (the step), t (its time), v and pred (the
        clean picture that x and v imply). By default there is none.
    disable: of tqdm; None shows a progress bar on a terminal only.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import trange

# Scripts look up these names in this module.
from .dpm_solver import dpmpp_2m_sample, dpmpp_2m_sde_sample, dpmpp_3m_sample
from .guidance import Callback, Model, NoiseSampler, make_autocast_model_fn, make_cond_model_fn
from .methods import METHODS
from .solvers import iplms_sample, pie_sample, plms2_sample, plms_sample, prk_sample, reverse_sample
from .utils import Level, get_levels

# The samplers of the probability flow ODE, which draw no noise.
ODE: dict[str, Callable[..., Tensor]] = {
    "prk": prk_sample,
    "plms": plms_sample,
    "pie": pie_sample,
    "plms2": plms2_sample,
    "iplms": iplms_sample,
    "dpmpp_2m": dpmpp_2m_sample,
    "dpmpp_3m": dpmpp_3m_sample,
}


def step_to(
    pred: Tensor,
    eps: Tensor,
    x: Tensor,
    here: Level,
    there: Level,
    eta: float,
    noise_sampler: NoiseSampler,
) -> Tensor:
    """Take one step between two noise levels: Song et al. 2020, arXiv 2010.02502, eq. 16."""
    if not eta:
        return pred * there.alpha + eps * there.sigma
    noise_ratio, signal_ratio = there.sigma**2 / here.sigma**2, here.alpha**2 / there.alpha**2
    # The share of the noise that is fresh: all of DDPM's at eta 1, none at eta 0.
    fresh_sigma = eta * noise_ratio.sqrt() * (1 - signal_ratio).clamp_min(0).sqrt()
    # With thousands of steps rounding can take both differences a little below 0.
    kept_sigma = (there.sigma**2 - fresh_sigma**2).clamp_min(0).sqrt()
    return pred * there.alpha + eps * kept_sigma + noise_sampler(x) * fresh_sigma


def sample(
    model: Model,
    x: Tensor,
    steps: Tensor,
    eta: float,
    extra_args: dict[str, Any],
    callback: Callback | None = None,
    *,
    noise_sampler: NoiseSampler = torch.randn_like,
    disable: bool | None = None,
) -> Tensor:
    """Draw samples, from DDPM (eta 1) to DDIM (eta 0): Song et al. 2020, arXiv 2010.02502.

    Args:
        model, x, steps, extra_args, callback, disable: see this module.
        eta: 0 to 1.
        noise_sampler: a function of x that returns fresh noise of its shape. Where eta > 0 it is
            called once in each step but the last.

    Returns:
        The pictures, [B, C, H, W], in about -1 to 1: pred of the last step.

    Raises:
        ValueError: there are no steps.
    """
    rest: dict[str, Any] = {"noise_sampler": noise_sampler, "disable": disable}
    return cond_sample(model, x, steps, eta, extra_args, None, callback, **rest)


@torch.no_grad()
def cond_sample(
    model: Model,
    x: Tensor,
    steps: Tensor,
    eta: float,
    extra_args: dict[str, Any],
    cond_fn: Callable[..., Tensor] | None,
    callback: Callback | None = None,
    *,
    noise_sampler: NoiseSampler = torch.randn_like,
    disable: bool | None = None,
) -> Tensor:
    """Draw samples as `sample` does, guided by v <- v - grad sigma / alpha.

    The method is that of Dhariwal and Nichol 2021, arXiv 2105.05233, algorithm 2.

    Args:
        cond_fn: a function called as `cond_fn(x, t, pred, **extra_args)` with gradients enabled. It
            returns grad, of x's shape: the direction to go, minus the gradient of a loss to x. x,
            [B, C, H, W], is the leaf that pred was computed from; t is [B]. At t = 1, where pred
            doesn't depend on x, it isn't called. None is no guidance.
    """
    ones = x.new_ones([x.shape[0]])
    model_fn, levels = make_autocast_model_fn(model), get_levels(steps)
    is_guided = cond_fn is not None
    # One transfer before the loop, so that no step waits for the device.
    guided = (steps < 1).tolist() if is_guided else []

    def v_fn(x: Tensor, i: int) -> Tensor:
        t, alpha, sigma = levels[i]
        with torch.set_grad_enabled(is_guided):
            x = x.detach().requires_grad_(is_guided)
            v = model_fn(x, ones * t, **extra_args)
            pred = x * alpha - v * sigma
            if callback is not None:
                callback({"x": x.detach(), "i": i, "t": t, "v": v.detach(), "pred": pred.detach()})
            if cond_fn is not None and guided[i]:
                grad = cond_fn(x, ones * t, pred, **extra_args).detach()
                v = v.detach() - grad * (sigma / alpha)
        return v.detach()

    for i in trange(len(steps), disable=disable):
        _, alpha, sigma = levels[i]
        v = v_fn(x, i)
        pred = x * alpha - v * sigma
        if i < len(steps) - 1:
            eps = x * sigma + v * alpha
            x = step_to(pred, eps, x, levels[i], levels[i + 1], eta, noise_sampler)
    return pred


def run_reverse(
    name: str,
    model: Model,
    x: Tensor,
    steps: Tensor,
    extra_args: dict[str, Any],
    callback: Callback | None = None,
    *,
    disable: bool | None = None,
) -> Tensor:
    """Take pictures to the noise that a method would draw them from.

    DPM-Solver++ can't start from a picture, where lambda is infinite, so its methods use DDIM's
    step, which is their own of order 1.

    Args:
        name: one of `METHODS` that draws no noise, or `ddim`, with eta 0.
        x: pictures, [B, C, H, W], -1 to 1.
        steps: [N] rising times; N - 1 steps are taken.

    Returns:
        x at the last time, [B, C, H, W].

    Raises:
        KeyError: the method is unknown, or draws noise; the text names those that can be taken.
    """
    rest: dict[str, Any] = {"callback": callback, "disable": disable}
    if name in ("ddim", "dpmpp_2m", "dpmpp_3m"):
        return reverse_sample(model, x, steps, extra_args, **rest)
    if name not in ODE:
        raise KeyError(f"{name!r} can't be run in reverse; use ddim or one of {', '.join(ODE)}")
    return ODE[name](model, x, steps, extra_args, is_reverse=True, **rest)


def run_method(
    name: str,
    model: Model,
    x: Tensor,
    steps: Tensor,
    eta: float,
    extra_args: dict[str, Any],
    cond_fn: Callable[..., Tensor] | None = None,
    callback: Callback | None = None,
    *,
    noise_sampler: NoiseSampler = torch.randn_like,
    disable: bool | None = None,
) -> Tensor:
    """Draw samples by the method of a name, guided where there is a cond_fn.

    Args:
        name: one of `METHODS`.
        x, steps, extra_args, cond_fn, callback, noise_sampler: as in `cond_sample`.
        eta: 0 to 1, of `ddpm` and `ddim`, which are one sampler, and of `dpmpp_2m_sde`. The others
            draw no noise.

    Returns:
        The pictures, [B, C, H, W], in about -1 to 1.

    Raises:
        KeyError: the method is unknown; the text names the known ones.
    """
    if name not in METHODS:
        raise KeyError(f"no method {name!r}; use one of {', '.join(METHODS)}")
    rest: dict[str, Any] = {"noise_sampler": noise_sampler, "disable": disable}
    if name in ("ddpm", "ddim"):
        return cond_sample(model, x, steps, eta, extra_args, cond_fn, callback, **rest)
    model_fn = model if cond_fn is None else make_cond_model_fn(model, cond_fn)
    if name == "dpmpp_2m_sde":
        return dpmpp_2m_sde_sample(model_fn, x, steps, eta, extra_args, callback, **rest)
    return ODE[name](model_fn, x, steps, extra_args, callback=callback, disable=disable)
