"""Sampling in few steps: pseudo numerical methods for v-objective models.

The probability flow ODE is linear but for what the network says. With eps held still over a step
its solution is DDIM's step, straight in sigma / alpha. The pseudo methods (Liu et al. 2022, arXiv
2202.09778) put a better mean of eps into that step.

Models, `steps` and callbacks are those of `diffusion.sampling`: x, v and pred in a callback's dict
are those at the beginning of the step, its first evaluation. The model is anything callable, so
guidance is a function around it, `make_cond_model_fn`, and every sampler here works guided.
`sampling.run_method` offers all of them by name.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from tqdm.auto import trange

from .guidance import Callback, Model, make_autocast_model_fn
from .utils import Level, combine, get_levels

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


class Step(NamedTuple):
    """The levels at the beginning, in the middle (in t) and at the end of a step."""

    here: Level
    middle: Level
    there: Level


EpsFn = Callable[[Tensor, Level], Tensor]
# What a one-step method is called with: the network's eps as a function of x and a level, x, its
# eps, and the step. It gives eps', the mean to take the whole step with.
OneStep = Callable[[EpsFn, Tensor, Tensor, Step], Tensor]


def euler(eps_fn: EpsFn, x: Tensor, eps: Tensor, step: Step) -> Tensor:
    """eps itself: DDIM."""
    return eps


def heun(eps_fn: EpsFn, x: Tensor, eps: Tensor, step: Step) -> Tensor:
    """The improved Euler method, with `transfer` for its straight lines."""
    return (eps + eps_fn(transfer(x, eps, step.here, step.there), step.there)) / 2


def runge_kutta(eps_fn: EpsFn, x: Tensor, eps: Tensor, step: Step) -> Tensor:
    """The classical Runge-Kutta method, likewise: Liu et al. 2022, arXiv 2202.09778, eq. 13."""
    here, middle, there = step
    eps_2 = eps_fn(transfer(x, eps, here, middle), middle)
    eps_3 = eps_fn(transfer(x, eps_2, here, middle), middle)
    eps_4 = eps_fn(transfer(x, eps_3, here, there), there)
    return (eps + 2 * eps_2 + 2 * eps_3 + eps_4) / 6


class ODESampler(Protocol):
    """A sampler of the probability flow ODE. It draws nothing.

    Args:
        x: noise at the first time, [B, C, H, W].
        steps: [N] falling times. N steps are taken, the last one to 0, which is appended.
        is_reverse: steps are walked as they are, N - 1 steps, and 0 is not appended. A rising row
            makes noise of pictures.

    Returns:
        x at the last time, [B, C, H, W]; where that is 0, the pictures.
    """

    def __call__(
        self,
        model: Model,
        x: Tensor,
        steps: Tensor,
        extra_args: dict[str, Any],
        is_reverse: bool = False,
        callback: Callback | None = None,
        *,
        disable: bool | None = None,
    ) -> Tensor: ...


def pseudo_method(
    name: str, doc: str, one_step: OneStep, starts: float = math.inf, order: int = 1
) -> ODESampler:
    """A pseudo method: `starts` steps by one_step, the others by Adams-Bashforth.

    Args:
        starts: 1 or more.
        order: the most eps that Adams-Bashforth looks at, 1 to 4.
    """

    @torch.no_grad()
    def sampler(
        model: Model,
        x: Tensor,
        steps: Tensor,
        extra_args: dict[str, Any],
        is_reverse: bool = False,
        callback: Callback | None = None,
        *,
        disable: bool | None = None,
    ) -> Tensor:
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

        for i in trange(len(steps) - 1, disable=disable):
            step = Step(levels[i], middles[i], levels[i + 1])
            here, there = step.here, step.there
            v = model_fn(x, ones * here.t, **extra_args)
            if callback is not None:
                pred = x * here.alpha - v * here.sigma
                callback({"x": x, "i": i, "t": here.t, "v": v, "pred": pred})
            eps = mean = get_eps(x, v, here)
            if i >= starts:
                mean = combine(ADAMS_BASHFORTH[len(history) + 1], [eps, *history])
                x_next = transfer(x, mean, here, there)
            elif i == 0 and from_noise:
                around = Step(*map(turned, step))
                pred = one_step(eps_fn, x, get_eps(x, v, around.here), around)
                mean = (x - pred * here.alpha) / here.sigma
                x_next = transfer(x, pred, around.here, around.there)
            else:
                mean = one_step(eps_fn, x, eps, step)
                x_next = transfer(x, mean, here, there)
            # Of its first steps v-diffusion-pytorch keeps the mean, where the paper keeps eps.
            history = [mean if i < starts else eps, *history][: order - 1]
            x = x_next
        return x

    sampler.__name__ = sampler.__qualname__ = name
    sampler.__doc__ = f"{doc}\n\nArguments: `ODESampler`."
    return sampler


prk_sample = pseudo_method(
    "prk_sample",
    "Pseudo Runge-Kutta: Liu et al. 2022, arXiv 2202.09778, eq. 13.",
    runge_kutta,
)
plms_sample = pseudo_method(
    "plms_sample",
    """Pseudo linear multistep (PNDM): Liu et al. 2022, arXiv 2202.09778, eq. 12.

    The first three steps are `prk_sample`'s. It leaves the paper in what is remembered of them: not
    the eps at their beginning but the mean eps' that they were taken with, as v-diffusion-pytorch
    does, so that shared seeds give the same pictures. On the schedules of `utils` neither is nearer
    to the ODE's solution (of a mixture of Gaussians, 20 steps: 0.0054 and the paper's 0.0053); in
    steps even in sigma / alpha the paper's has order 4 and this one 2.""",
    runge_kutta,
    starts=3,
    order=4,
)
pie_sample = pseudo_method(
    "pie_sample", "Pseudo improved Euler: Liu et al. 2022, arXiv 2202.09778.", heun
)
plms2_sample = pseudo_method(
    "plms2_sample",
    "`plms_sample` of two eps, its first step `pie_sample`'s, remembered likewise by its mean.",
    heun,
    starts=1,
    order=2,
)
iplms_sample = pseudo_method(
    "iplms_sample",
    """Improved pseudo linear multistep (iPNDM): Zhang and Chen 2022, arXiv 2204.13902.

    Orders 1, 2, 3, then 4, instead of a start that costs more.""",
    euler,
    starts=1,
    order=4,
)
ddim = pseudo_method("ddim", "DDIM's ODE, and the last step to 0.", euler)


def reverse_sample(
    model: Model,
    x: Tensor,
    steps: Tensor,
    extra_args: dict[str, Any],
    callback: Callback | None = None,
    *,
    disable: bool | None = None,
) -> Tensor:
    """DDIM's ODE from pictures to noise: Song et al. 2020, arXiv 2010.02502, section 4.3.

    Args:
        x: pictures at the first time, [B, C, H, W], -1 to 1.
        steps: [N] rising times; N - 1 steps are taken.

    Returns:
        x at the last time, [B, C, H, W].
    """
    return ddim(model, x, steps, extra_args, True, callback, disable=disable)
