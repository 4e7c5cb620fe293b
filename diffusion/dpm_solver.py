"""Sampling in few steps: DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095) for v-objective models.

With pred held still over a step the solution of the probability flow ODE is DDIM's step, straight
in alpha / sigma. DPM-Solver++ puts a better mean of pred into that step, of a polynomial in lambda
= log(alpha / sigma). Models, `steps` and callbacks are those of `diffusion.sampling`.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import trange

from . import utils
from .guidance import Callback, Model, NoiseSampler, make_autocast_model_fn
from .utils import combine, get_levels


def dpmpp_coefficients(steps: Tensor, eta: float, order: int) -> tuple[Tensor, Tensor, Tensor]:
    """What `dpmpp_sample` multiplies in each of its N - 1 steps.

    With h the step in lambda and k = (1 + eta) h, the exact step is exp(-eta h) sigma' / sigma x
    + alpha' k int_0^1 exp(-k (1 - u)) D(u) du + sigma' sqrt(1 - exp(-2 eta h)) noise, where D is
    pred as a polynomial in u, the share of the step gone, through the last `order` pred. What is
    not there yet is infinitely long ago, as is t = 1, and counts nothing.

    Returns:
        The factors of x, [N - 1]; of the newest pred and of those before it, [N - 1, order]; and of
        the noise, [N - 1].
    """
    alphas, sigmas = utils.t_to_alpha_sigma(steps)
    # Rounded, cos(pi / 2) can be less than 0.
    h = (alphas.clamp_min(0) / sigmas).log().diff()
    # At t = 1 h is infinite, and 0 times that is no number.
    eta_h = eta * h if eta else torch.zeros_like(h)
    k, next_alphas, next_sigmas = h + eta_h, alphas[1:], sigmas[1:]
    phi_1 = -torch.expm1(-k)
    phi_2 = 1 - phi_1 / k
    phi_3 = 1 - 2 * phi_2 / k
    # 1 over the lengths of the two steps before, in steps like this one.
    before = torch.cat([h.new_full([2], math.inf), h])
    a, b = ((h / before[i : i + len(h)]).nan_to_num(0) for i in (1, 0))
    if order == 2:
        # Lu et al. have phi_1 / 2 for phi_2, as good to this order.
        newer, older = a * phi_1 / 2, torch.zeros_like(a)
    else:
        # Newton's polynomial, D_0 + u d + u (u + 1 / a) (d - e) / (1 / a + 1 / b), with the
        # differences d = a (D_0 - D_1) and e = b (D_1 - D_2). At the first step a + b is 0.
        bend = phi_3 / (1 / a + 1 / b) + phi_2 * (b / (a + b)).nan_to_num(0)
        newer, older = a * (phi_2 + bend), b * bend
    weights = torch.stack([phi_1 + newer, -newer - older, older], 1)[:, :order]
    kept = next_sigmas / sigmas[:-1] * torch.exp(-eta_h)
    return kept, weights * next_alphas[:, None], next_sigmas * (-torch.expm1(-2 * eta_h)).sqrt()


@torch.no_grad()
def dpmpp_sample(
    model: Model,
    x: Tensor,
    steps: Tensor,
    eta: float,
    extra_args: dict[str, Any],
    callback: Callback | None,
    noise_sampler: NoiseSampler,
    disable: bool | None,
    order: int,
) -> Tensor:
    """DPM-Solver++, multistep: Lu et al. 2022, arXiv 2211.01095.

    Args:
        x: noise at the first time, [B, C, H, W].
        steps: [N] falling times, none of them 0. As in `sampling.sample`, N - 1 steps are taken.
        eta: 0 is the ODE, 1 the diffusion SDE.
        noise_sampler: x to fresh noise of its shape; asked once a step where eta > 0, but the last.
        order: how many pred it looks at, 2 or 3; the first steps have fewer.

    Returns:
        The last pred, [B, C, H, W]: the step to 0, where lambda is infinite.
    """
    ones = x.new_ones([x.shape[0]])
    model_fn = make_autocast_model_fn(model)
    kept, weights, fresh = dpmpp_coefficients(steps, eta, order)
    levels = get_levels(steps)
    history: list[Tensor] = []
    for i in trange(len(steps), disable=disable):
        t, alpha, sigma = levels[i]
        v = model_fn(x, ones * t, **extra_args)
        pred = x * alpha - v * sigma
        if callback is not None:
            callback({"x": x, "i": i, "t": t, "v": v, "pred": pred})
        if i < len(steps) - 1:
            history = [pred, *history][:order]
            x = x * kept[i] + combine(weights[i], history)
            if eta:
                x = x + noise_sampler(x) * fresh[i]
    return pred


def dpmpp_method(name: str, doc: str, order: int) -> Callable[..., Tensor]:
    """DPM-Solver++ of an order, without noise: `dpmpp_sample` of eta 0."""

    def sampler(
        model: Model,
        x: Tensor,
        steps: Tensor,
        extra_args: dict[str, Any],
        callback: Callback | None = None,
        *,
        disable: bool | None = None,
    ) -> Tensor:
        noise_sampler = torch.randn_like  # never asked
        rest = callback, noise_sampler, disable, order
        return dpmpp_sample(model, x, steps, 0.0, extra_args, *rest)

    sampler.__name__ = sampler.__qualname__ = name
    sampler.__doc__ = f"{doc}\n\nArguments: `dpmpp_sample`."
    return sampler


dpmpp_2m_sample = dpmpp_method(
    "dpmpp_2m_sample", "DPM-Solver++(2M): Lu et al. 2022, arXiv 2211.01095, algorithm 2.", 2
)
dpmpp_3m_sample = dpmpp_method(
    "dpmpp_3m_sample", "`dpmpp_2m_sample` of order 3, with the integrals of u and u^2 exact.", 3
)


def dpmpp_2m_sde_sample(
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
    """SDE-DPM-Solver++(2M), Lu et al. 2022, arXiv 2211.01095. Arguments: `dpmpp_sample`.

    Its first step with eta 1 is DDPM's; with eta 0 all are `dpmpp_2m_sample`'s.
    """
    return dpmpp_sample(model, x, steps, eta, extra_args, callback, noise_sampler, disable, 2)
