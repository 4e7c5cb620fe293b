"""How the work of a compiled convolution is cut into tiles, pieces and threads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .compiled import Values, numbered, up

MOST_TILES = 32  # of a piece: what then is transformed stays in the cache
ALIGNMENT = 64  # of memory that two threads write to
SHAPES = 1024  # so many are remembered


def rows(shape: torch.Size) -> int:
    """The tiles of a picture of a shape [B, C, H, W]."""
    return -(-shape[2] // 4) * -(-shape[3] // 4)


def padded(filters: int, channels: int) -> tuple[int, int]:
    """Those of weights with zeros where they fill no vectors."""
    from .kernels.product import COLUMNS
    from .kernels.vectors import LANES

    return up(filters, COLUMNS), up(channels, LANES)


def pieces(shape: torch.Size, threads: int) -> tuple[int, int]:
    """The tiles of a piece, and the pieces of an image: as many as give all threads as much."""
    from .kernels.product import ROWS

    tiles = rows(shape)
    most = min(MOST_TILES, -(-tiles * shape[0] // threads))
    size = up(-(-tiles // -(-tiles // most)), ROWS)
    return size, -(-tiles // size)


@dataclass(frozen=True)
class Plan:
    """How convolutions of one shape are done.

    Args:
        channels, filters: with those that fill vectors.
        per_image: pieces of an image.
        scratch_bytes: of a thread.
        numbers: the task's arguments, but for what is another one each time.
        zeros: which the arguments have the address of.
    """

    channels: int
    filters: int
    per_image: int
    scratch_bytes: int
    numbers: list[int]
    zeros: Tensor


@lru_cache(SHAPES)
def plan_of(shape: torch.Size, filters: int, threads: int) -> Plan:
    """The plan for pictures [B, C, H, W]."""
    from .kernels import convolution as jit

    b, c, h, w = shape
    wide, deep = padded(filters, c)
    tiles, per_image = pieces(shape, threads)
    scratch_bytes = up(jit.scratch_bytes(tiles, deep, wide), ALIGNMENT)
    zeros = torch.zeros(max(deep, wide))
    sizes = {"images": b, "height": h, "width": w, "channels": deep, "filters": wide}
    values: Values = {"tiles": tiles, "scratch_bytes": scratch_bytes, "how": jit.PLAIN}
    numbers = numbered(jit.ARGUMENTS, {**sizes, **values, "bias": zeros, "zeros": zeros})
    return Plan(deep, wide, per_image, scratch_bytes, numbers, zeros)
