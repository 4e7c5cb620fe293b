"""DDPM and DDIM sampling of v-objective models, and every sampler by name.

A model is anything that is called as `model(x, t, **extra_args)`, x [B, C, H, W], t [B], and gives
v, of x's shape. `steps` is a falling row of times, [N], on x's device. `callback` is called at each
step with a dict of x, i (the step), t (its time), v and pred (the picture that x and v say). Each
sampler returns the last pred. `disable` is tqdm's: None shows a bar on a terminal only.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import trange

from . import utils
from .dpm_solver import dpmpp_2m_sample, dpmpp_2m_sde_sample, dpmpp_3m_sample
from .guidance import (
    Callback,
    Model,
    NoiseSampler,
    autocast,
    make_autocast_model_fn,
    make_cond_model_fn,
)
from .methods import EVALUATIONS, METHODS
from .solvers import (
    iplms_sample,
    pie_sample,
    plms2_sample,
    plms_sample,
    prk_sample,
    reverse_sample,
)

# The samplers of few steps are asked for here too.
__all__ = [
    "EVALUATIONS",
    "METHODS",
    "Callback",
    "Model",
    "NoiseSampler",
    "autocast",
    "cond_sample",
    "dpmpp_2m_sample",
    "dpmpp_2m_sde_sample",
    "dpmpp_3m_sample",
    "iplms_sample",
    "make_autocast_model_fn",
    "make_cond_model_fn",
    "pie_sample",
    "plms2_sample",
    "plms_sample",
    "prk_sample",
    "reverse_sample",
    "run_method",
    "run_reverse",
    "sample",
    "step_to",
]
# The samplers of the probability flow ODE, which draw nothing.
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
    alpha: Tensor,
    sigma: Tensor,
    next_alpha: Tensor,
    next_sigma: Tensor,
    eta: float,
    noise_sampler: NoiseSampler,
) -> Tensor:
    """One step between two noise levels (Song et al. 2020, arXiv 2010.02502, eq. 16)."""
    if not eta:
        return pred * next_alpha + eps * next_sigma
    # The share of the noise that is fresh: all of DDPM's at eta 1, none at eta 0.
    ddim_sigma = eta * (next_sigma**2 / sigma**2).sqrt() * (1 - alpha**2 / next_alpha**2).sqrt()
    kept_sigma = (next_sigma**2 - ddim_sigma**2).sqrt()
    return pred * next_alpha + eps * kept_sigma + noise_sampler(x) * ddim_sigma


def walk(
    v_fn: Callable[[Tensor, int], Tensor],
    x: Tensor,
    steps: Tensor,
    eta: float,
    noise_sampler: NoiseSampler,
    disable: bool | None,
) -> Tensor:
    """`sample`'s steps, by v as a function of x and the step's index; gives the last pred."""
    alphas, sigmas = utils.t_to_alpha_sigma(steps)
    for i in trange(len(steps), disable=disable):
        v = v_fn(x, i)
        pred = x * alphas[i] - v * sigmas[i]
        if i < len(steps) - 1:
            eps = x * sigmas[i] + v * alphas[i]
            levels = alphas[i], sigmas[i], alphas[i + 1], sigmas[i + 1]
            x = step_to(pred, eps, x, *levels, eta, noise_sampler)
    return pred


@torch.no_grad()
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
    """Draws samples, from DDPM (eta 1) to DDIM (eta 0): Song et al. 2020, arXiv 2010.02502.

    Args:
        x: noise at the first time, [B, C, H, W].
        steps: [N] falling times.
        eta: 0 to 1.
        extra_args: keyword arguments of the model.
        noise_sampler: x to fresh noise of its shape; asked once a step where eta > 0, but the last.

    Returns:
        The pictures, [B, C, H, W], in about -1 to 1.
    """
    ones = x.new_ones([x.shape[0]])
    alphas, sigmas = utils.t_to_alpha_sigma(steps)

    def v_fn(x: Tensor, i: int) -> Tensor:
        with autocast(x.device):
            v = model(x, ones * steps[i], **extra_args).float()
        if callback is not None:
            pred = x * alphas[i] - v * sigmas[i]
            callback({"x": x, "i": i, "t": steps[i], "v": v, "pred": pred})
        return v

    return walk(v_fn, x, steps, eta, noise_sampler, disable)


@torch.no_grad()
def cond_sample(
    model: Model,
    x: Tensor,
    steps: Tensor,
    eta: float,
    extra_args: dict[str, Any],
    cond_fn: Callable[..., Tensor],
    callback: Callback | None = None,
    *,
    noise_sampler: NoiseSampler = torch.randn_like,
    disable: bool | None = None,
) -> Tensor:
    """Like `sample`, guided by gradients: Dhariwal and Nichol 2021, arXiv 2105.05233.

    Args:
        cond_fn: called as `cond_fn(x, t, pred, **extra_args)` with gradients on, x [B, C, H, W] the
            leaf that pred was made from and t [B]; gives the direction to go, of x's shape: minus
            the gradient to x of a loss. Not called at t = 1, where pred doesn't depend on x.
    """
    ones = x.new_ones([x.shape[0]])
    alphas, sigmas = utils.t_to_alpha_sigma(steps)
    # One transfer before the loop, so that no step waits for the device.
    guided = (steps < 1).tolist()

    def v_fn(x: Tensor, i: int) -> Tensor:
        t = ones * steps[i]
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            with autocast(x.device):
                v = model(x, t, **extra_args).float()
            pred = x * alphas[i] - v * sigmas[i]
            if callback is not None:
                detached = {"x": x.detach(), "v": v.detach(), "pred": pred.detach()}
                callback({**detached, "i": i, "t": steps[i]})
            if guided[i]:
                grad = cond_fn(x, t, pred, **extra_args).detach()
                v = v.detach() - grad * (sigmas[i] / alphas[i])
        return v.detach()

    return walk(v_fn, x, steps, eta, noise_sampler, disable)


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
    """Pictures to the noise that the method of a name makes them of.

    DPM-Solver++ has no way to leave a picture, where lambda is infinite: its methods go DDIM's way,
    which is their own of order 1.

    Args:
        name: one of `METHODS` that draws no noise, or `ddim`, whose eta is then 0.
        x: pictures, [B, C, H, W], -1 to 1.
        steps: [N] rising times; N - 1 steps are taken.

    Returns:
        x at the last time, [B, C, H, W].

    Raises:
        KeyError: there is no such method.
    """
    rest: dict[str, Any] = {"callback": callback, "disable": disable}
    if name in ("ddim", "dpmpp_2m", "dpmpp_3m"):
        return reverse_sample(model, x, steps, extra_args, **rest)
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
    """Pictures by the method of a name, guided where there is a cond_fn.

    Args:
        name: one of `METHODS`.
        x, steps, extra_args, cond_fn, callback: as in `cond_sample`.
        eta: for `ddpm` and `ddim`, which are one sampler, and `dpmpp_2m_sde`, 0 to 1; the others
            draw nothing.
        noise_sampler: x to fresh noise of its shape; by default torch's own stream.

    Raises:
        KeyError: there is no such method.
    """
    if name not in METHODS:
        raise KeyError(name)
    if name in ("ddpm", "ddim"):
        rest: dict[str, Any] = {"noise_sampler": noise_sampler, "disable": disable}
        if cond_fn is None:
            return sample(model, x, steps, eta, extra_args, callback, **rest)
        return cond_sample(model, x, steps, eta, extra_args, cond_fn, callback, **rest)
    model_fn = model if cond_fn is None else make_cond_model_fn(model, cond_fn)
    if name in ODE:
        return ODE[name](model_fn, x, steps, extra_args, callback=callback, disable=disable)
    return dpmpp_2m_sde_sample(
        model_fn,
        x,
        steps,
        eta,
        extra_args,
        callback,
        noise_sampler=noise_sampler,
        disable=disable,
    )
