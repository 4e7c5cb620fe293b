"""Models as the samplers call them, and guidance, which makes one model of another.

A model is any function or module that is called as `model(x, t, **extra_args)`, with x [B, C, H, W]
and t [B] in 0 to 1, and returns v = alpha eps - sigma x_0, of x's shape (Salimans and Ho 2022,
arXiv 2202.00512).
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from . import utils

Model = Callable[..., Tensor]
Callback = Callable[[dict[str, Any]], object]
CondFn = Callable[..., Tensor]
NoiseSampler = Callable[[Tensor], Tensor]


def autocast(device: torch.device, enabled: bool = True) -> AbstractContextManager[object]:
    """Make a context that computes in fp16 on CUDA, as the original does; elsewhere a no-op."""
    on_cuda = device.type == "cuda"
    return torch.autocast("cuda", torch.float16, enabled=enabled) if on_cuda else nullcontext()


def make_autocast_model_fn(model: Model) -> Model:
    """Make a model that computes in `autocast` and returns v in x's type."""

    def autocast_model_fn(x: Tensor, t: Tensor, **extra_args: Any) -> Tensor:
        with autocast(x.device):
            return model(x, t, **extra_args).to(x.dtype)

    return autocast_model_fn


def make_cfg_model_fn(model: Model, weights: Tensor, at_once: int | None = None) -> Model:
    """Make a model guided without a classifier: Ho and Salimans 2022, arXiv 2207.12598, eq. 6.

    It takes extra_args [K B, ...] and returns the sum of weights[k] v_k over K conditions. If the
    first is no condition, and the other has the weight w, that is (1 - w) v_0 + w v_1.

    Args:
        model: called with x and t repeated for each condition, the rows of the first one first.
        weights: [K, B].
        at_once: the number of these K B rows to evaluate together, by default all.
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


def make_cond_model_fn(model: Model, cond_fn: CondFn) -> Model:
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
        with torch.enable_grad(), autocast(x.device, enabled=False):
            x = x.detach().requires_grad_()
            v = model_fn(x, t, **extra_args)
            pred = x * alpha - v * sigma
            grad = cond_fn(x, t, pred, **extra_args).detach()
        at_noise = utils.append_dims(t >= 1, x.ndim)
        return v.detach() - (grad * (sigma / alpha)).masked_fill(at_noise, 0)

    return cond_model_fn


def make_interval_model_fn(guided: Model, plain: Model, first: float, last: float) -> Model:
    """Make a model that is guided between two times only, both of them included: Kynkäänniemi et
    al. 2024, arXiv 2404.07724, eq. 6.

    Args:
        guided, plain: the model at the times from first to last, and at all others. The rows of a
            batch have one time.
    """

    def interval_model_fn(x: Tensor, t: Tensor, **extra_args: Any) -> Tensor:
        # This waits for the device, for less time than the guidance that it saves would take.
        return (guided if first <= t[0].item() <= last else plain)(x, t, **extra_args)

    return interval_model_fn


def make_pred_model_fn(model: Model, change: Callable[[Tensor, Tensor], Tensor]) -> Model:
    """Make a model that implies change(pred, t), of pred's shape, in the place of pred.

    It returns v + (pred - change(pred, t)) / sigma, or v itself at t = 0, where pred is x.
    """
    model_fn = make_autocast_model_fn(model)

    def pred_model_fn(x: Tensor, t: Tensor, **extra_args: Any) -> Tensor:
        alpha, sigma = (utils.append_dims(a, x.ndim) for a in utils.t_to_alpha_sigma(t))
        v = model_fn(x, t, **extra_args)
        pred = x * alpha - v * sigma
        return v + (pred - change(pred, t)) / sigma.masked_fill(sigma == 0, math.inf)

    return pred_model_fn


def threshold(pred: Tensor, share: float) -> Tensor:
    """Bring pictures back into -1 to 1: Saharia et al. 2022, arXiv 2205.11487, section 2.3.

    Dynamic thresholding: s is the percentile of a picture's absolute values, or 1 if that is less.
    Values are clamped to -s and s, and divided by s. The gradient takes s for a constant.

    Args:
        pred: [B, C, H, W].
        share: the share of values up to s, 0 to 1. At 1, where nothing would be clamped, s is 1:
            static thresholding.
    """
    sizes = pred.detach().abs().flatten(1)
    rank = max(1, math.ceil(share * sizes.shape[1]))
    s = sizes.sort(1).values[:, rank - 1].clamp_min(1) if share < 1 else sizes.new_ones(len(sizes))
    s = utils.append_dims(s, pred.ndim)
    return pred.clamp(-s, s) / s


def is_free(t: Tensor, starts: Tensor) -> Tensor:
    """Tell which pixels are drawn at times [B], by the times [B, 1, H, W] from which on they are:
    Levin and Fried 2023, arXiv 2306.00950, algorithm 1.
    """
    return utils.append_dims(t, starts.ndim) < starts


def make_mask_model_fn(model: Model, inits: Tensor, starts: Tensor) -> Model:
    """Make a model that keeps a part of pictures: Lugmayr et al. 2022, arXiv 2201.09865, eq. 8.

    For a kept pixel it implies the picture's own value. Any sampler's x is then that value at the
    noise of each step there, as in eq. 8a, with the sampler's own noise and no further draws.

    Args:
        inits: [B, C, H, W].
        starts: as in `is_free`.
    """
    return make_pred_model_fn(model, lambda pred, t: torch.where(is_free(t, starts), pred, inits))


def make_mask_cond_fn(cond_fn: CondFn, starts: Tensor) -> CondFn:
    """Make a cond_fn that leaves kept pixels as they are. Arguments: `make_mask_model_fn`."""

    def mask_cond_fn(x: Tensor, t: Tensor, *args: Any, **extra_args: Any) -> Tensor:
        return cond_fn(x, t, *args, **extra_args) * is_free(t, starts)

    return mask_cond_fn
