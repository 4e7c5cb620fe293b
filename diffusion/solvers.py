"""Sampling in few steps: pseudo numerical methods and DPM-Solver++ for v-objective models.

Both solve the probability flow ODE, which is linear but for what the network says. With eps held
still over a step its solution is DDIM's step, straight in sigma / alpha; with pred held still it is
the same step, straight in alpha / sigma. The pseudo methods (Liu et al. 2022, arXiv 2202.09778)
put a better mean of eps into that step, DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095) a better
mean of pred, of a polynomial in lambda = log(alpha / sigma).

Models, `steps` and callbacks are those of `diffusion.sampling`: x, v and pred in a callback's dict
are those at the beginning of the step, its first evaluation. The model is anything callable, so
guidance is a function around it, `make_cond_model_fn`, and every sampler here works guided.
`methods.run_method` offers all of them by name.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import trange

from . import utils

Model = Callable[..., Tensor]
Callback = Callable[[dict[str, Any]], object]
NoiseSampler = Callable[[Tensor], Tensor]

# Adams-Bashforth: the weights of the newest eps and of those before it, by order.
ADAMS_BASHFORTH = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}

# A first time above this is noise: alpha is too near 0 to divide by. The schedules of `utils` begin
# at 0.9957 and are under it, linspace(1, 0, ...) is over it.
NOISE = 0.999


def autocast(device: torch.device) -> torch.autocast:
    """fp16 on CUDA, where the original computes in it; a no-op elsewhere."""
    return torch.autocast(device.type, torch.float16, enabled=device.type == "cuda")


def make_autocast_model_fn(model: Model) -> Model:
    """The model computing in `autocast`, its v brought back to x's type."""

    def autocast_model_fn(x: Tensor, t: Tensor, **extra_args: Any) -> Tensor:
        with autocast(x.device):
            return model(x, t, **extra_args).to(x.dtype)

    return autocast_model_fn


def make_cond_model_fn(model: Model, cond_fn: Callable[..., Tensor]) -> Model:
    """The model guided by gradients: Dhariwal and Nichol 2021, arXiv 2105.05233.

    v <- v - grad sigma / alpha, and at t = 1, where alpha is 0, v as it is.

    Args:
        cond_fn: as in `sampling.cond_sample`. It is asked at t = 1 too and its answer left unused:
            which time it is only the device knows, and to ask would be to wait for it.
    """
    model_fn = make_autocast_model_fn(model)

    def cond_model_fn(x: Tensor, t: Tensor, **extra_args: Any) -> Tensor:
        alpha, sigma = (utils.append_dims(a, x.ndim) for a in utils.t_to_alpha_sigma(t))
        # A sampler calls this in autocast, but cond_fn has its own precision.
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            x = x.detach().requires_grad_()
            v = model_fn(x, t, **extra_args)
            pred = x * alpha - v * sigma
            grad = cond_fn(x, t, pred, **extra_args).detach()
        at_noise = utils.append_dims(t >= 1, x.ndim)
        return v.detach() - (grad * (sigma / alpha)).masked_fill(at_noise, 0)

    return cond_model_fn


class Level(NamedTuple):
    """A time and its scaling factors, each a tensor of no dimensions."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor


def get_levels(steps: Tensor) -> list[Level]:
    """The noise levels of a row of times."""
    return [Level(*level) for level in zip(steps, *utils.t_to_alpha_sigma(steps))]


def turned(level: Level) -> Level:
    """A quarter turn of (alpha, sigma), by which the formulas for eps become those for pred.

    `transfer` then divides by sigma and not by alpha: the way to leave t = 1.
    """
    return Level(level.t, -level.sigma, level.alpha)


def get_eps(x: Tensor, v: Tensor, level: Level) -> Tensor:
    """eps, or at a turned level pred."""
    return x * level.sigma + v * level.alpha


def transfer(x: Tensor, eps: Tensor, here: Level, there: Level) -> Tensor:
    """DDIM's step, with any eps: Liu et al. 2022, arXiv 2202.09778, eq. 11."""
    ratio = there.alpha / here.alpha
    return x * ratio + eps * (there.sigma - here.sigma * ratio)


def combine(weights: Iterable[float | Tensor], history: Iterable[Tensor]) -> Tensor:
    """The weighted sum."""
    first, *others = (weight * past for weight, past in zip(weights, history))
    return sum(others, first)


# What a one-step method is called with: the network's eps as a function of x and a level, x, its
# eps, and the levels at the beginning, in the middle (in t) and at the end of the step. It gives
# eps', the mean to take the whole step with.
OneStep = Callable[[Callable[[Tensor, Level], Tensor], Tensor, Tensor, Level, Level, Level], Tensor]


def euler(
    eps_fn: Callable[[Tensor, Level], Tensor],
    x: Tensor,
    eps: Tensor,
    here: Level,
    middle: Level,
    there: Level,
) -> Tensor:
    """eps itself: DDIM."""
    return eps


def heun(
    eps_fn: Callable[[Tensor, Level], Tensor],
    x: Tensor,
    eps: Tensor,
    here: Level,
    middle: Level,
    there: Level,
) -> Tensor:
    """The improved Euler method, with `transfer` for its straight lines."""
    return (eps + eps_fn(transfer(x, eps, here, there), there)) / 2


def runge_kutta(
    eps_fn: Callable[[Tensor, Level], Tensor],
    x: Tensor,
    eps: Tensor,
    here: Level,
    middle: Level,
    there: Level,
) -> Tensor:
    """The classical Runge-Kutta method, likewise: Liu et al. 2022, arXiv 2202.09778, eq. 13."""
    eps_2 = eps_fn(transfer(x, eps, here, middle), middle)
    eps_3 = eps_fn(transfer(x, eps_2, here, middle), middle)
    eps_4 = eps_fn(transfer(x, eps_3, here, there), there)
    return (eps + 2 * eps_2 + 2 * eps_3 + eps_4) / 6


@torch.no_grad()
def pseudo_sample(
    model: Model,
    x: Tensor,
    steps: Tensor,
    extra_args: dict[str, Any],
    is_reverse: bool,
    callback: Callback | None,
    one_step: OneStep,
    starts: float = math.inf,
    order: int = 1,
) -> Tensor:
    """The loop of every pseudo method: `starts` steps by one_step, the others by Adams-Bashforth.

    Args:
        x: noise at the first time, [B, C, H, W].
        steps: [N] falling times. N steps are taken, the last one to 0, which is appended.
        is_reverse: steps are walked as they are, N - 1 steps, and 0 is not appended. A rising row
            makes noise of pictures.
        starts: 1 or more.
        order: the most eps that Adams-Bashforth looks at, 1 to 4.

    Returns:
        x at the last time, [B, C, H, W]; where that is 0, the pictures.
    """
    if not is_reverse:
        steps = torch.cat([steps, steps.new_zeros([1])])
    ones = x.new_ones([x.shape[0]])
    model_fn = make_autocast_model_fn(model)
    levels, middles = get_levels(steps), get_levels((steps[:-1] + steps[1:]) / 2)
    # One transfer before the loop, so that no step waits for the device.
    from_noise = bool(steps[0] > NOISE)
    history: list[Tensor] = []

    def eps_fn(x: Tensor, level: Level) -> Tensor:
        return get_eps(x, model_fn(x, ones * level.t, **extra_args), level)

    for i in trange(len(steps) - 1, disable=None):
        here, middle, there = levels[i], middles[i], levels[i + 1]
        v = model_fn(x, ones * here.t, **extra_args)
        if callback is not None:
            pred = x * here.alpha - v * here.sigma
            callback({"x": x, "i": i, "t": here.t, "v": v, "pred": pred})
        history = [get_eps(x, v, here), *history][:order]
        if i == 0 and from_noise:
            here, middle, there = turned(here), turned(middle), turned(there)
        if i < starts:
            eps = one_step(eps_fn, x, get_eps(x, v, here), here, middle, there)
        else:
            eps = combine(ADAMS_BASHFORTH[len(history)], history)
        x = transfer(x, eps, here, there)
    return x


def prk_sample(
    model: Model,
    x: Tensor,
    steps: Tensor,
    extra_args: dict[str, Any],
    is_reverse: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """Pseudo Runge-Kutta: Liu et al. 2022, arXiv 2202.09778, eq. 13. Arguments: `pseudo_sample`."""
    return pseudo_sample(model, x, steps, extra_args, is_reverse, callback, runge_kutta)


def plms_sample(
    model: Model,
    x: Tensor,
    steps: Tensor,
    extra_args: dict[str, Any],
    is_reverse: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """Pseudo linear multistep (PNDM): Liu et al. 2022, arXiv 2202.09778, eq. 12.

    The first three steps are `prk_sample`'s. Arguments: `pseudo_sample`.
    """
    return pseudo_sample(model, x, steps, extra_args, is_reverse, callback, runge_kutta, 3, 4)


def pie_sample(
    model: Model,
    x: Tensor,
    steps: Tensor,
    extra_args: dict[str, Any],
    is_reverse: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """Pseudo improved Euler: Liu et al. 2022, arXiv 2202.09778. Arguments: `pseudo_sample`."""
    return pseudo_sample(model, x, steps, extra_args, is_reverse, callback, heun)


def plms2_sample(
    model: Model,
    x: Tensor,
    steps: Tensor,
    extra_args: dict[str, Any],
    is_reverse: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """`plms_sample` of two eps, its first step `pie_sample`'s. Arguments: `pseudo_sample`."""
    return pseudo_sample(model, x, steps, extra_args, is_reverse, callback, heun, 1, 2)


def iplms_sample(
    model: Model,
    x: Tensor,
    steps: Tensor,
    extra_args: dict[str, Any],
    is_reverse: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """Improved pseudo linear multistep (iPNDM): Zhang and Chen 2022, arXiv 2204.13902.

    Orders 1, 2, 3, then 4, instead of a start that costs more. Arguments: `pseudo_sample`.
    """
    return pseudo_sample(model, x, steps, extra_args, is_reverse, callback, euler, 1, 4)


def reverse_sample(
    model: Model,
    x: Tensor,
    steps: Tensor,
    extra_args: dict[str, Any],
    callback: Callback | None = None,
) -> Tensor:
    """DDIM's ODE from pictures to noise: Song et al. 2020, arXiv 2010.02502, section 4.3.

    Args:
        x: pictures at the first time, [B, C, H, W], -1 to 1.
        steps: [N] rising times; N - 1 steps are taken.

    Returns:
        x at the last time, [B, C, H, W].
    """
    return pseudo_sample(model, x, steps, extra_args, True, callback, euler)


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
    for i in trange(len(steps), disable=None):
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
) -> Tensor:
    """DPM-Solver++(2M): Lu et al. 2022, arXiv 2211.01095, algorithm 2. Arguments: `dpmpp_sample`"""
    return dpmpp_sample(model, x, steps, 0.0, extra_args, callback, torch.randn_like, 2)


def dpmpp_3m_sample(
    model: Model,
    x: Tensor,
    steps: Tensor,
    extra_args: dict[str, Any],
    callback: Callback | None = None,
) -> Tensor:
    """Likewise of order 3, with the integrals of u and u^2 exact. Arguments: `dpmpp_sample`."""
    return dpmpp_sample(model, x, steps, 0.0, extra_args, callback, torch.randn_like, 3)


def dpmpp_2m_sde_sample(
    model: Model,
    x: Tensor,
    steps: Tensor,
    eta: float,
    extra_args: dict[str, Any],
    callback: Callback | None = None,
    *,
    noise_sampler: NoiseSampler = torch.randn_like,
) -> Tensor:
    """SDE-DPM-Solver++(2M), Lu et al. 2022, arXiv 2211.01095. Arguments: `dpmpp_sample`.

    Its first step with eta 1 is DDPM's; with eta 0 all are `dpmpp_2m_sample`'s.
    """
    return dpmpp_sample(model, x, steps, eta, extra_args, callback, noise_sampler, 2)
