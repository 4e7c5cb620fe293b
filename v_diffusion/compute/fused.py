"""Compiled convolutions and what stands between them, on tensors. On a CPU, where numba is there.

Pictures are [B, C, H, W] of fp32 in channels_last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .compiled import Values, is_there, share
from .tiling import SHAPES, padded, plan_of, rows

# With fewer tiles of all pictures together the weights are what takes time, but for those that are
# small enough to stay in the cache (so many bytes, transformed).
FEWEST_TILES, SMALL = 16, 2**23


def can(weight: Tensor) -> bool:
    """Whether weights [K, C, 3, 3] can go this way at all."""
    return weight.shape[2:] == (3, 3) and is_there()


def pays(shape: torch.Size, weight: Tensor, most: float = math.inf) -> bool:
    """Whether to take this way with weights [K, C, 3, 3] and pictures of a shape [B, C, H, W].

    Args:
        most: how many times as large as the pictures the transformed weights may be.
    """
    return can(weight) and worth(shape, weight.shape, most)


@lru_cache(SHAPES)
def worth(shape: torch.Size, weights: torch.Size, most: float) -> bool:
    """`pays`, for weights that can."""
    from .kernels import convolution

    b, _, h, w = shape
    filters, channels = padded(*weights[:2])
    if 4 * convolution.PRODUCTS * filters * channels <= SMALL:
        return True
    if convolution.PRODUCTS * filters > most * b * h * w:
        return False
    return b * rows(shape) >= FEWEST_TILES


def whole(channels: Iterable[int]) -> bool:
    """Whether channels fill vectors, so that what goes through a `Rectifier` can have them."""
    from .kernels.vectors import LANES

    return all(count % LANES == 0 for count in channels)


def pack(weight: Tensor) -> Tensor:
    """Weights [K, C, 3, 3], transformed, for `convolve`."""
    from .kernels import convolution, threads

    filters, channels = padded(*weight.shape[:2])
    turned = weight.permute(2, 3, 1, 0)
    more = (0, filters - turned.shape[3], 0, channels - turned.shape[2])
    turned = F.pad(turned, more) if any(more) else turned.contiguous()
    out = weight.new_empty(convolution.PRODUCTS * channels * filters)
    values: Values = {"x": turned, "output": out, "channels": channels, "filters": filters}
    share(convolution.pack, convolution.ARGUMENTS, values, threads.count())
    return out


@dataclass(frozen=True)
class Rectifier:
    """relu(scale h + shift), of each channel; in scale and shift is h's normalisation, too.

    Args:
        scale, shift: [B, C].
        moments: [B, 2], the mean of each image of h and 1 over its standard deviation, if it is
            normalised.
    """

    scale: Tensor
    shift: Tensor
    moments: Tensor | None = None


@dataclass(frozen=True)
class Gradient:
    """The gradient g to what a rectifier made of h, on its way back through that.

    Args:
        more: [B, 2], what h has through its normalisation: a number to add, and another for each
            unit of h.
    """

    h: Tensor
    rectifier: Rectifier
    more: Tensor

    @property
    def values(self) -> dict[str, Tensor]:
        return {"scale": self.rectifier.scale, "shift": self.rectifier.shift, "more": self.more}


def convolve(
    x: Tensor,
    packed: Tensor,
    filters: int,
    bias: Tensor | None = None,
    before: Rectifier | Gradient | None = None,
    added: Tensor | None = None,
    measured: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """The convolution of padding 1.

    Args:
        packed: of `pack`.
        filters: the channels of what comes out.
        before: what x goes through first. x is h, or the gradient that it takes back.
        added: a picture to add, where there is no bias.
        measured: whether to give the sums too.

    Returns:
        What comes out, and sums over it and its squares, [B, parts, 2].
    """
    from .kernels import convolution as jit
    from .kernels import threads

    b, c, h, w = x.shape
    many = threads.count()
    plan = plan_of(x.shape, filters, many)
    wide, deep = plan.filters, plan.channels
    if deep > c:
        x = F.pad(x, (0, 0, 0, 0, 0, deep - c)).contiguous(memory_format=torch.channels_last)
    if bias is not None and wide > filters:
        bias = F.pad(bias, (0, wide - filters))
    out = torch.empty(b, wide, h, w, memory_format=torch.channels_last)
    sums = torch.empty(b, plan.per_image, 2) if measured else None
    scratch = torch.empty(many * plan.scratch_bytes, dtype=torch.uint8)
    numbers = list(plan.numbers)
    numbers[jit.X] = x.data_ptr()
    numbers[jit.WEIGHT] = packed.data_ptr()
    numbers[jit.OUTPUT] = out.data_ptr()
    numbers[jit.SCRATCH] = scratch.data_ptr()
    if bias is not None:
        numbers[jit.BIAS] = bias.data_ptr()
    if sums is not None:
        numbers[jit.MOMENTS] = sums.data_ptr()
    if before is not None:
        through = before if isinstance(before, Rectifier) else before.rectifier
        numbers[jit.HOW] = jit.RECTIFIED
        numbers[jit.SCALE], numbers[jit.SHIFT] = through.scale.data_ptr(), through.shift.data_ptr()
    if isinstance(before, Gradient):
        numbers[jit.HOW] = jit.GRADIENT
        numbers[jit.AWAY] = before.h.data_ptr() - x.data_ptr()
        numbers[jit.MORE] = before.more.data_ptr()
    if added is not None and wide == filters:
        numbers[jit.ADDED] = added.data_ptr() - out.data_ptr()
    threads.share(jit.convolve, numbers, many)
    if wide > filters:
        out = out[:, :filters].contiguous(memory_format=torch.channels_last)
        out = out if added is None else out.add_(added)
    return out, sums


def each_pixel(how: int, x: Tensor, values: Values, sums: bool = False) -> Tensor | None:
    """Runs a pointwise task; gives its sums, [B, parts, 2], if it is one that sums."""
    from .kernels import pointwise, threads, vectors

    b, c, h, w = x.shape
    parts = -(-h * w // pointwise.PIXELS)
    space = torch.zeros(b * parts * (2 * vectors.LANES + 2)) if sums else None
    numbers = {"how": how, "images": b, "pixels": h * w, "channels": c}
    given: dict[str, Any] = {"x": x, "sums": space, **numbers, **values}
    share(pointwise.each_pixel, pointwise.ARGUMENTS, given, threads.count())
    return None if space is None else space[-2 * b * parts :].view(b, parts, 2)


def rectify(h: Tensor, through: Rectifier, added: Tensor | None = None) -> Tensor:
    """relu(scale h + shift), and another picture added."""
    from .kernels import pointwise

    how = pointwise.RECTIFY if added is None else pointwise.RECTIFY_AND_ADD
    out = torch.empty_like(h)
    coefficients = {"scale": through.scale, "shift": through.shift}
    each_pixel(how, h, {"output": out, "other": added, **coefficients})
    return out


def measure(h: Tensor) -> Tensor:
    """Sums over pictures and over their squares, [B, parts, 2]."""
    from .kernels import pointwise

    sums = each_pixel(pointwise.MEASURE, h, {}, sums=True)
    assert sums is not None
    return sums


def modulate(h: Tensor, sums: Tensor, scale: Tensor, shift: Tensor) -> Rectifier:
    """Of pictures normalised over each whole image, scaled by 1 + `scale` and shifted.

    Args:
        sums: of h, as `convolve` and `measure` give them.
        scale, shift: [B, C] or [1, C], rows of one tensor.
    """
    from .kernels import normalisation

    b, c, height, width = h.shape
    a, shifted, moments = h.new_empty(b, c), h.new_empty(b, c), h.new_empty(b, 2)
    row = scale.stride(0) * scale.element_size() if len(scale) > 1 else 0
    addresses = [one.data_ptr() for one in (a, shifted, moments)]
    given = (sums.data_ptr(), sums.shape[1], b, height * width, c)
    normalisation.modulation(*given, scale.data_ptr(), shift.data_ptr(), row, *addresses)
    return Rectifier(a, shifted, moments)


def only_rectify(h: Tensor) -> Rectifier:
    """Of pictures that are not normalised."""
    return Rectifier(h.new_ones(h.shape[:2]), h.new_zeros(h.shape[:2]))


def back(g: Tensor, h: Tensor, through: Rectifier) -> Gradient:
    """The gradient to what a rectifier made of h, g, before it goes back through that."""
    from .kernels import normalisation, pointwise

    more = h.new_zeros(len(h), 2)
    found = Gradient(h, through, more)
    if through.moments is not None:
        sums = each_pixel(pointwise.SUM_GRADIENT, g, {"other": h, **found.values}, sums=True)
        assert sums is not None
        count = h[0].numel()
        addresses = through.moments.data_ptr(), more.data_ptr()
        normalisation.normalisation_gradient(
            sums.data_ptr(), sums.shape[1], len(h), count, *addresses
        )
    return found


def go_back(g: Tensor, gradient: Gradient) -> Tensor:
    """The gradient to h."""
    from .kernels import pointwise

    out = torch.empty_like(g)
    each_pixel(pointwise.UNRECTIFY, g, {"other": gradient.h, "output": out, **gradient.values})
    return out
