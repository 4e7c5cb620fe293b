"""The samplers by name, for programs. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# How often a method of N times asks the model.
EVALUATIONS: dict[str, Callable[[int], int]] = {
    "ddpm": lambda n: n,
    "ddim": lambda n: n,
    "prk": lambda n: 4 * n,
    "plms": lambda n: n + 3 * min(n, 3),
    "pie": lambda n: 2 * n,
    "plms2": lambda n: n + min(n, 1),
    "iplms": lambda n: n,
    "dpmpp_2m": lambda n: n,
    "dpmpp_3m": lambda n: n,
    "dpmpp_2m_sde": lambda n: n,
}
METHODS = tuple(EVALUATIONS)
# Those that draw fresh noise in each step, as much as eta says. The others solve an ODE.
STOCHASTIC = ("ddpm", "dpmpp_2m_sde")


def run_method(
    name: str,
    model: Callable[..., Tensor],
    x: Tensor,
    steps: Tensor,
    eta: float,
    extra_args: dict[str, Any],
    cond_fn: Callable[..., Tensor] | None = None,
    callback: Callable[[dict[str, Any]], object] | None = None,
    *,
    noise_sampler: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Pictures by the method of a name, guided where there is a cond_fn.

    Args:
        name: one of `METHODS`.
        x, steps, extra_args, cond_fn, callback: as in `sampling.cond_sample`.
        eta: for those in `STOCHASTIC`; the others draw nothing.
        noise_sampler: x to fresh noise of its shape; by default torch's own stream.

    Raises:
        KeyError: there is no such method.
    """
    import torch

    from . import sampling

    if name not in METHODS:
        raise KeyError(name)
    draws = {"noise_sampler": noise_sampler or torch.randn_like}
    if name in ("ddpm", "ddim"):
        args = (model, x, steps, eta if name == "ddpm" else 0.0, extra_args)
        if cond_fn is None:
            return sampling.sample(*args, callback, **draws)
        return sampling.cond_sample(*args, cond_fn, callback, **draws)
    sampler = getattr(sampling, f"{name}_sample")
    model_fn = model if cond_fn is None else sampling.make_cond_model_fn(model, cond_fn)
    if name in STOCHASTIC:
        return sampler(model_fn, x, steps, eta, extra_args, callback, **draws)
    return sampler(model_fn, x, steps, extra_args, callback=callback)
