"""DPM-Solver++ for v-objective models: Lu et al. 2022, arXiv 2211.01095.

If pred doesn't change during a step, DDIM's step, which is linear in alpha / sigma, solves the
probability flow ODE exactly. DPM-Solver++ puts a better mean of pred into that step: the mean of a
polynomial in lambda = log(alpha / sigma) through the newest pred and those before it.
"""

import math
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import trange

from .guidance import Callback, Model, NoiseSampler, make_autocast_model_fn
from .utils import combine, get_levels, t_to_alpha_sigma


def dpmpp_coefficients(steps: Tensor, eta: float, order: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the factors of x, of the last preds and of the noise in each step of DPM-Solver++.

    With h the step in lambda and k = (1 + eta) h, the exact step is exp(-eta h) sigma' / sigma x
    + alpha' k int_0^1 exp(-k (1 - u)) D(u) du + sigma' sqrt(1 - exp(-2 eta h)) noise. D(u) is the
    polynomial through the last `order` preds, where u runs from 0 at the beginning of the step to 1
    at its end. Preds that don't exist yet, and that of t = 1, are infinitely far away: their factor
    is 0.

    Returns:
        The factors of x, [N - 1]; of the newest pred and of those before it, [N - 1, order]; and of
        the noise, [N - 1].
    """
    alphas, sigmas = t_to_alpha_sigma(steps)
    # Rounding can make cos(pi / 2) negative.
    h = (alphas.clamp_min(0) / sigmas).log().diff()
    # At t = 1 h is infinite, and 0 times that is NaN.
    eta_h = eta * h if eta else torch.zeros_like(h)
    k, next_alphas, next_sigmas = h + eta_h, alphas[1:], sigmas[1:]
    phi_1 = -torch.expm1(-k)
    phi_2 = 1 - phi_1 / k
    phi_3 = 1 - 2 * phi_2 / k
    # This step's length over the length of the step before (a), and of the one before that (b).
    before = torch.cat([h.new_full([2], math.inf), h])
    a, b = ((h / before[i : i + len(h)]).nan_to_num(0, posinf=0) for i in (1, 0))
    if order == 2:
        # Lu et al. use phi_1 / 2 in place of phi_2, which is as accurate at this order.
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
    order: int = 2,
) -> Tensor:
    """Draw samples by SDE-DPM-Solver++(2M): Lu et al. 2022, arXiv 2211.01095.

    With eta 1 the first step is DDPM's. A step to time 0, where lambda is infinite, is DDIM's.

    Args:
        model, x, steps, extra_args, callback, noise_sampler, disable: as in `sampling.sample`.
        eta: 0 for the probability flow ODE to 1 for the diffusion SDE.
        order: the number of preds that a step uses, 2 (as in 2M) or 3; the first have fewer.

    Returns:
        The pictures, [B, C, H, W], in about -1 to 1: pred of the last step.

    Raises:
        ValueError: there are no steps.
    """
    ones = x.new_ones([x.shape[0]])
    model_fn, levels = make_autocast_model_fn(model), get_levels(steps)
    kept, weights, fresh = dpmpp_coefficients(steps, eta, order)
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


def dpmpp_2m_sample(
    model: Model,
    x: Tensor,
    steps: Tensor,
    extra_args: dict[str, Any],
    callback: Callback | None = None,
    **options: Any,
) -> Tensor:
    """Draw samples by DPM-Solver++(2M), algorithm 2 of the paper.

    Arguments: `dpmpp_2m_sde_sample`, whose eta is 0.
    """
    return dpmpp_2m_sde_sample(model, x, steps, 0.0, extra_args, callback, **options)


def dpmpp_3m_sample(*args: Any, **options: Any) -> Tensor:
    """Draw samples by DPM-Solver++ of order 3, exact in u and u^2. Arguments: `dpmpp_2m_sample`."""
    return dpmpp_2m_sample(*args, **options, order=3)
