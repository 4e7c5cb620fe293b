"""Pseudo numerical methods for v-objective models: Liu et al. 2022, arXiv 2202.09778.

If eps doesn't change during a step, DDIM's step, which is linear in sigma / alpha, solves the
probability flow ODE exactly. The pseudo methods put a better mean of eps into that step.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import trange

from .guidance import Callback, Model, make_autocast_model_fn
from .utils import Level, combine, get_levels

# The weights of the newest eps and of those before it in the Adams-Bashforth methods, by order.
ADAMS_BASHFORTH = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}
# Above this time alpha is too near 0 to divide by. linspace(1, 0, ...) begins above it, the
# schedules of `utils`, whose first time is 0.9957, below it.
NOISE = 0.999


def turned(level: Level) -> Level:
    """Turn (alpha, sigma) by a quarter: formulas for eps become those for pred, valid at t = 1."""
    return Level(level.t, -level.sigma, level.alpha)


def get_eps(x: Tensor, v: Tensor, level: Level) -> Tensor:
    """Return eps or, at a turned level, pred."""
    return x * level.sigma + v * level.alpha


def transfer(x: Tensor, eps: Tensor, here: Level, there: Level) -> Tensor:
    """Take DDIM's step from one level to another, with any eps: eq. 11 of the paper."""
    ratio = there.alpha / here.alpha
    return x * ratio + eps * (there.sigma - here.sigma * ratio)


class Step(NamedTuple):
    """Noise levels at the beginning of a step, in the middle of its times, and at its end."""

    here: Level
    middle: Level
    there: Level


EpsFn = Callable[[Tensor, Level], Tensor]
# A one-step method takes the model's eps as a function of x and a level, x, the eps of x, and the
# step. It returns eps', the mean of eps with which to take the step.
OneStep = Callable[[EpsFn, Tensor, Tensor, Step], Tensor]


def euler(eps_fn: EpsFn, x: Tensor, eps: Tensor, step: Step) -> Tensor:
    """Return eps itself, which makes the step DDIM's."""
    return eps


def heun(eps_fn: EpsFn, x: Tensor, eps: Tensor, step: Step) -> Tensor:
    """Return the mean eps of the improved Euler method, whose linear steps become `transfer`."""
    return (eps + eps_fn(transfer(x, eps, step.here, step.there), step.there)) / 2


def runge_kutta(eps_fn: EpsFn, x: Tensor, eps: Tensor, step: Step) -> Tensor:
    """Return the mean eps of the classical Runge-Kutta method: eq. 13 of the paper."""
    here, middle, there = step
    eps_2 = eps_fn(transfer(x, eps, here, middle), middle)
    eps_3 = eps_fn(transfer(x, eps_2, here, middle), middle)
    eps_4 = eps_fn(transfer(x, eps_3, here, there), there)
    return (eps + 2 * eps_2 + 2 * eps_3 + eps_4) / 6


ARGUMENTS = """

    Args:
        model, extra_args, callback, disable: see `diffusion.sampling`. A callback's x, v and pred
            are those at the beginning of the step, its first evaluation of the model.
        x: noise at the first time, [B, C, H, W].
        steps: [N] falling times, to which 0 is appended: N steps are taken.
        is_reverse: take N - 1 steps through `steps` as they are. Rising times make noise of
            pictures.

    Returns:
        x at the last time, [B, C, H, W]; at time 0 the pictures, in about -1 to 1.
    """


def pseudo_method(
    name: str, doc: str, one_step: OneStep, starts: float = math.inf, order: int = 1
) -> Callable[..., Tensor]:
    """Make a sampler that takes `starts` steps, 1 or more, by one_step, and the others by the
    Adams-Bashforth method of order 1 to 4, at first of the order that its past allows.
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
        # The last of the middles is of no step.
        levels, middles = get_levels(steps), get_levels((steps + steps.roll(-1)) / 2)
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
            # Of the starting steps v-diffusion-pytorch keeps the mean, where the paper keeps eps.
            history = [mean if i < starts else eps, *history][: order - 1]
            x = x_next
        return x

    sampler.__name__ = sampler.__qualname__ = name
    sampler.__doc__ = doc + ARGUMENTS
    return sampler


prk_sample = pseudo_method(
    "prk_sample", "Pseudo Runge-Kutta: Liu et al. 2022, arXiv 2202.09778, eq. 13.", runge_kutta
)
plms_sample = pseudo_method(
    "plms_sample",
    """Pseudo linear multistep (PNDM): Liu et al. 2022, arXiv 2202.09778, eq. 12.

    The first three steps are those of `prk_sample`. The paper keeps the eps at their beginning;
    this method keeps the mean eps' with which they were taken, as v-diffusion-pytorch does, so that
    a seed gives the same picture in both. On the schedules of `utils` both are equally accurate
    (20 steps for a mixture of Gaussians are off by 0.0054, the paper's by 0.0053). In equal steps
    of sigma / alpha the paper's method has order 4, and this one order 2.""",
    runge_kutta,
    starts=3,
    order=4,
)
pie_sample = pseudo_method(
    "pie_sample", "Pseudo improved Euler: Liu et al. 2022, arXiv 2202.09778.", heun
)
plms2_sample = pseudo_method(
    "plms2_sample",
    """Pseudo linear multistep of order 2: Liu et al. 2022, arXiv 2202.09778.

    The first step is that of `pie_sample`, and its mean eps' is kept as in `plms_sample`.""",
    heun,
    starts=1,
    order=2,
)
iplms_sample = pseudo_method(
    "iplms_sample",
    """Improved pseudo linear multistep (iPNDM): Zhang and Chen 2022, arXiv 2204.13902.

    The first steps have orders 1, 2 and 3, and no further evaluations.""",
    euler,
    starts=1,
    order=4,
)
ddim = pseudo_method("ddim", "DDIM with eta 0, and with a last step to 0.", euler)


def reverse_sample(
    model: Model,
    x: Tensor,
    steps: Tensor,
    extra_args: dict[str, Any],
    callback: Callback | None = None,
    *,
    disable: bool | None = None,
) -> Tensor:
    """Take pictures to noise by DDIM's ODE: Song et al. 2020, arXiv 2010.02502, section 4.3.

    Arguments and result: `prk_sample` with is_reverse, x being pictures in -1 to 1.
    """
    return ddim(model, x, steps, extra_args, True, callback, disable=disable)
