"""What samplers call: a model in the precision of its device, and guidance as a function around it.

A model is anything that is called as `model(x, t, **extra_args)`, x [B, C, H, W], t [B], and gives
v, of x's shape.
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
    """fp16 on CUDA, where the original computes in it; a no-op elsewhere."""
    return torch.autocast(device.type, torch.float16, enabled=device.type == "cuda")


def make_autocast_model_fn(model: Model) -> Model:
    """The model computing in `autocast`, its v brought back to x's type."""

    def autocast_model_fn(x: Tensor, t: Tensor, **extra_args: Any) -> Tensor:
        with autocast(x.device):
            return model(x, t, **extra_args).to(x.dtype)

    return autocast_model_fn


def make_cfg_model_fn(model: Model, weights: Tensor, at_once: int | None = None) -> Model:
    """The model under several conditions at once: Ho and Salimans 2022, arXiv 2207.12598.

    v <- sum of weights[k] v_k over the conditions, the first of which is none at all: with one
    other of weight w, (1 - w) v_0 + w v_1.

    Args:
        model: is called with x and t repeated for each condition, all rows of the first one first.
        weights: [K, B].
        at_once: how many of these K B rows it is called with together, by default all.

    Returns:
        A function of x, [B, C, H, W], t, [B], and the model's other arguments, [K B, ...].
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
