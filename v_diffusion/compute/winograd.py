"""3x3 convolutions of padding 1 by Winograd's F(4x4, 3x3), compiled.

Pictures are [B, C, H, W] of fp32 in channels_last.
"""

import math
from collections.abc import Mapping
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import address, addresses, round_up
from .kernels import convolution as jit
from .kernels.product import COLUMNS, ROWS
from .kernels.vectors import LANES

# With fewer tiles of all pictures together the weights are what takes time, but for those that are
# small enough to stay in the cache (so many bytes, transformed).
MIN_TILES, SMALL = 16, 2**23
MAX_PIECE = 32  # tiles of a piece: what then is transformed stays in the cache
ALIGNMENT = 64  # of memory that two threads write to


def tiles_of(shape: torch.Size) -> int:
    """Return the number of tiles of a picture of a shape [B, C, H, W]."""
    return -(-shape[2] // 4) * -(-shape[3] // 4)


def padded(filters: int, channels: int) -> tuple[int, int]:
    """Round up to what fills vectors; weights have zeros there."""
    return round_up(filters, COLUMNS), round_up(channels, LANES)


@lru_cache(1024)
def is_faster(shape: torch.Size, weights: torch.Size, room: float = math.inf) -> bool:
    """Return whether to go this way with weights [K, C, 3, 3] and pictures [B, C, H, W]; `room` is
    how many times as large as the pictures the transformed weights may be.
    """
    if weights[2:] != (3, 3):
        return False
    b, _, h, w = shape
    filters, channels = padded(*weights[:2])
    if 4 * jit.PRODUCTS * filters * channels <= SMALL:
        return True
    return jit.PRODUCTS * filters <= room * b * h * w and b * tiles_of(shape) >= MIN_TILES


def pieces(shape: torch.Size, threads: int) -> tuple[int, int]:
    """Return the tiles of a piece and the pieces of an image, which give all threads as much."""
    tiles = tiles_of(shape)
    most = min(MAX_PIECE, -(-tiles * shape[0] // threads))
    size = round_up(-(-tiles // -(-tiles // most)), ROWS)
    return size, -(-tiles // size)


def pack(weight: Tensor) -> Tensor:
    """Transform weights [K, C, 3, 3] for `convolve`."""
    filters, channels = padded(*weight.shape[:2])
    turned = weight.permute(2, 3, 1, 0)
    more = (0, filters - turned.shape[3], 0, channels - turned.shape[2])
    turned = F.pad(turned, more).flatten().contiguous()
    out = weight.new_empty(jit.PRODUCTS * channels * filters)
    places = {"x": address(turned, 9 * channels * filters), "output": address(out, out.numel())}
    jit.pack(channels, **places, channels=channels, filters=filters)
    return out


def convolve(
    x: Tensor,
    packed: Tensor,
    filters: int,
    bias: Tensor | None = None,
    before: Mapping[str, Tensor | None] | None = None,
    added: Tensor | None = None,
    measured: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Convolve pictures, and return them and, if measured, the moments of each part, [B, parts, 3].

    Args:
        packed, filters: the weights, by `pack`, and the channels of what comes out.
        before: the values of a `pointwise.Rectifier` that x goes through, or back through, first.
        added: a picture to add, where there is no bias.
    """
    b, c, h, w = x.shape
    threads = torch.get_num_threads()
    wide, deep = padded(filters, c)
    tiles, per_image = pieces(x.shape, threads)
    if deep > c:
        x = F.pad(x, (0, 0, 0, 0, 0, deep - c)).contiguous(memory_format=torch.channels_last)
    if bias is not None and wide > filters:
        bias = F.pad(bias, (0, wide - filters))
    out = x.new_empty(b, h, w, wide).permute(0, 3, 1, 2)
    zeros = x.new_zeros(max(deep, wide))
    size = round_up(jit.scratch_bytes(tiles, deep, wide), ALIGNMENT)
    scratch = x.new_empty(threads * size // 4)
    moments = x.new_empty(b, per_image, 3) if measured else None
    places = {
        "weight": address(packed, jit.PRODUCTS * deep * wide),
        "bias": address(zeros, len(zeros)) if bias is None else address(bias, wide),
        "zeros": address(zeros, len(zeros)),
        "scratch": address(scratch, len(scratch)),
        "moments": 0 if moments is None else address(moments, b, per_image, 3),
        **addresses(x, {"x": x, **(before or {})}),
        **addresses(out, {"output": out, "added": None if wide > filters else added}),
    }
    sizes = {"height": h, "width": w, "channels": deep, "filters": wide, "tiles": tiles}
    jit.convolve(b * per_image, scratch_size=size, **sizes, **places)
    if wide > filters:
        out = out[:, :filters].contiguous(memory_format=torch.channels_last)
        out = out if added is None else out.add_(added)
    return out, moments
