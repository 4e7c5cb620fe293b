"""3x3 convolutions of padding 1 by Winograd's F(4x4, 3x3), compiled.

Pictures are [B, C, H, W] of fp32 in channels_last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from . import kernels
from .kernels import address, round_up

# With fewer tiles of all pictures together the weights are what takes time, but for those that are
# small enough to stay in the cache (so many bytes, transformed).
MIN_TILES, SMALL = 16, 2**23
MAX_PIECE = 32  # tiles of a piece: what then is transformed stays in the cache
ALIGNMENT = 64  # of memory that two threads write to
SHAPES = 1024  # so many are remembered


def tiles_of(shape: torch.Size) -> int:
    """Return the number of tiles of a picture of a shape [B, C, H, W]."""
    return -(-shape[2] // 4) * -(-shape[3] // 4)


def padded(filters: int, channels: int) -> tuple[int, int]:
    """Round up to what fills vectors; weights have zeros there."""
    from .kernels.product import COLUMNS
    from .kernels.vectors import LANES

    return round_up(filters, COLUMNS), round_up(channels, LANES)


@lru_cache(SHAPES)
def is_faster(shape: torch.Size, weights: torch.Size, room: float = math.inf) -> bool:
    """Return whether to go this way with weights [K, C, 3, 3] and pictures [B, C, H, W].

    Args:
        room: how many times as large as the pictures the transformed weights may be.
    """
    if weights[2:] != (3, 3) or not kernels.available():
        return False
    from .kernels.convolution import PRODUCTS

    b, _, h, w = shape
    filters, channels = padded(*weights[:2])
    if 4 * PRODUCTS * filters * channels <= SMALL:
        return True
    return PRODUCTS * filters <= room * b * h * w and b * tiles_of(shape) >= MIN_TILES


def pieces(shape: torch.Size, threads: int) -> tuple[int, int]:
    """Return the tiles of a piece and the pieces of an image, which give all threads as much."""
    from .kernels.product import ROWS

    tiles = tiles_of(shape)
    most = min(MAX_PIECE, -(-tiles * shape[0] // threads))
    size = round_up(-(-tiles // -(-tiles // most)), ROWS)
    return size, -(-tiles // size)


@dataclass(frozen=True)
class Plan:
    """The work of convolutions of one shape.

    Args:
        channels, filters: with those that fill vectors.
        per_image: pieces of an image.
        scratch: the numbers of a thread's own memory.
        numbers: the task's arguments, but for those that differ from call to call.
        zeros: which the arguments have the address of.
    """

    channels: int
    filters: int
    per_image: int
    scratch: int
    numbers: list[int]
    zeros: Tensor


@lru_cache(SHAPES)
def plan_of(shape: torch.Size, filters: int, threads: int) -> Plan:
    """Plan convolutions of pictures [B, C, H, W]."""
    from .kernels import convolution as jit

    b, c, h, w = shape
    wide, deep = padded(filters, c)
    tiles, per_image = pieces(shape, threads)
    size = round_up(jit.scratch_bytes(tiles, deep, wide), ALIGNMENT)
    zeros = torch.zeros(max(deep, wide), dtype=torch.float32, device="cpu")
    at_zeros = address(zeros, max(deep, wide))
    sizes = {"images": b, "height": h, "width": w, "channels": deep, "filters": wide}
    values = {"tiles": tiles, "scratch_bytes": size, "bias": at_zeros, "zeros": at_zeros}
    numbers = kernels.numbers_of(jit.ARGUMENTS, {**sizes, **values})
    return Plan(deep, wide, per_image, size // 4, numbers, zeros)


def pack(weight: Tensor) -> Tensor:
    """Transform weights [K, C, 3, 3] for `convolve`."""
    from .kernels import convolution as jit

    filters, channels = padded(*weight.shape[:2])
    turned = weight.permute(2, 3, 1, 0)
    more = (0, filters - turned.shape[3], 0, channels - turned.shape[2])
    turned = F.pad(turned, more).flatten().contiguous()
    out = weight.new_empty(jit.PRODUCTS * channels * filters)
    places = {"x": address(turned, 9 * channels * filters), "output": address(out, out.numel())}
    kernels.share(jit.pack, jit.ARGUMENTS, {**places, "channels": channels, "filters": filters})
    return out


def convolve(
    x: Tensor,
    packed: Tensor,
    filters: int,
    bias: Tensor | None = None,
    before: Mapping[str, Tensor] | None = None,
    added: Tensor | None = None,
    measured: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Convolve pictures, in one pass with what stands before and behind that in a network.

    Args:
        packed: of `pack`.
        filters: the channels of what comes out.
        before: the values of a `pointwise.Rectifier` or `pointwise.Gradient`, which x goes through
            first.
        added: a picture to add, where there is no bias.
        measured: give the moments too.

    Returns:
        What comes out, and of each part of it the count, the mean and the sum of squares around
        that, [B, parts, 3].
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
    out = x.new_empty(b, h, w, wide).permute(0, 3, 1, 2)
    moments = x.new_empty(b, plan.per_image, 3) if measured else None
    scratch = x.new_empty(many * plan.scratch)
    numbers = list(plan.numbers)
    numbers[jit.X] = address(x, b, deep, h, w)
    numbers[jit.WEIGHT] = address(packed, jit.PRODUCTS * deep * wide)
    numbers[jit.OUTPUT] = address(out, b, wide, h, w)
    numbers[jit.SCRATCH] = address(scratch, many * plan.scratch)
    if bias is not None:
        numbers[jit.BIAS] = address(bias, wide)
    if moments is not None:
        numbers[jit.MOMENTS] = address(moments, b, plan.per_image, 3)
    if before is not None:
        numbers[jit.HOW] = jit.GRADIENT if "h" in before else jit.RECTIFIED
        numbers[jit.SCALE] = address(before["scale"], b, deep)
        numbers[jit.SHIFT] = address(before["shift"], b, deep)
    if before is not None and "h" in before:
        numbers[jit.AWAY] = address(before["h"], b, deep, h, w) - numbers[jit.X]
        numbers[jit.MORE] = address(before["more"], b, 3)
    if added is not None and wide == filters:
        numbers[jit.ADDED] = address(added, b, wide, h, w) - numbers[jit.OUTPUT]
    threads.share(jit.convolve, numbers, many)
    if wide > filters:
        out = out[:, :filters].contiguous(memory_format=torch.channels_last)
        out = out if added is None else out.add_(added)
    return out, moments
