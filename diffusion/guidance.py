"""Models as the samplers call them, and guidance, which makes one model of another.

A model is any function or module that is called as `model(x, t, **extra_args)`, with x [B, C, H, W]
and t [B] in 0 to 1, and returns v = alpha eps - sigma x_0, of x's shape (Salimans and Ho 2022,
arXiv 2202.00512).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import utils

Model = Callable[..., Tensor]
Callback = Callable[[dict[str, Any]], object]
NoiseSampler = Callable[[Tensor], Tensor]


def autocast(device: torch.device) -> torch.autocast:
    """Make a context that computes in fp16 on CUDA, as the original does; elsewhere a no-op."""
    return torch.autocast(device.type, torch.float16, enabled=device.type == "cuda")


def make_autocast_model_fn(model: Model) -> Model:
    """Make a model that computes in `autocast` and returns v in x's type."""

    def autocast_model_fn(x: Tensor, t: Tensor, **extra_args: Any) -> Tensor:
        with autocast(x.device):
            return model(x, t, **extra_args).to(x.dtype)

    return autocast_model_fn


def make_cfg_model_fn(model: Model, weights: Tensor, at_once: int | None = None) -> Model:
    """Make a model guided without a classifier: Ho and Salimans 2022, arXiv 2207.12598, eq. 6.

    It returns the sum of weights[k] v_k over K conditions. If the first is no condition, and the
    other has the weight w, that is (1 - w) v_0 + w v_1.

    Args:
        model: called with x and t repeated for each condition, the rows of the first one first.
        weights: [K, B].
        at_once: the number of these K B rows to evaluate together, by default all.

    Returns:
        A model whose extra_args are [K B, ...].
    """

    def cfg_model_fn(x: Tensor, t: Tensor, **extra_args: Tensor) -> Tensor:
        many = len(weights)
        size = at_once or many * len(x)
        xs, ts = (torch.split(a, size) for a in (x.repeat(many, 1, 1, 1), t.repeat(many)))
        names, values = extra_args.keys(), extra_args.values()
        rows = zip(*(torch.split(value, size) for value in values))
        v = torch.cat([model(*a, **dict(zip(names, row))) for *a, row in zip(xs, ts, rows)])
        return (v.view(many, *x.shape) * utils.append_dims(weights, x.ndim + 1)).sum(0)

    return cfg_model_fn


def make_cond_model_fn(model: Model, cond_fn: Callable[..., Tensor]) -> Model:
    """Make a model guided by gradients: Dhariwal and Nichol 2021, arXiv 2105.05233, algorithm 2.

    It returns v - grad sigma / alpha, or v itself at t = 1, where alpha is 0.

    Args:
        cond_fn: as in `sampling.cond_sample`, but called at t = 1 too, where its result isn't used:
            to compare t on the CPU would be to wait for the device.
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
