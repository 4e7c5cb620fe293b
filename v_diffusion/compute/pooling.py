"""Squares of pictures pooled to one size, all at once, by compiled code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .compiled import Values, is_there, share, up

ALIGNMENT = 64  # of memory that two threads write to
# The number of a picture, the row and the column of its upper left corner, and its side.
Square = tuple[int, int, int, int]


def fits(x: Tensor) -> bool:
    """Whether `pool` can have x."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and is_there()


def ends_of(side: Tensor, size: int) -> Tensor:
    """Of squares with sides [N] the first and the one behind the last of the rows that each row of
    those that come out covers, and so the columns: [N, size, 2].
    """
    i, side = torch.arange(size), side[:, None]
    return torch.stack([i * side // size, -(-(i + 1) * side // size)], dim=-1)


def run(task: int, x: Tensor, output: Tensor, shape: torch.Size, places: dict[str, Any]) -> None:
    """Runs a task on pictures of a shape.

    Args:
        places: its arguments `squares`, `ends` and `size`.
    """
    from .kernels import pooling, threads

    images, channels, height, width = shape
    many = threads.count()
    scratch_bytes = up(x.element_size() * max(height, width), ALIGNMENT)
    values: Values = {"x": x, "output": output, "count": len(places["squares"])}
    sizes = {"images": images, "channels": channels, "height": height, "width": width}
    scratch = torch.empty(many * scratch_bytes, dtype=torch.uint8)
    more: Values = {"scratch": scratch, "scratch_bytes": scratch_bytes}
    share(task, pooling.ARGUMENTS, {**values, **sizes, **places, **more}, many)


class Pooled(torch.autograd.Function):
    """The pooled squares; the gradient goes to the pictures."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, squares: Tensor, size: int) -> Tensor:
        from .kernels import pooling

        ends = ends_of(squares[:, pooling.SIDE], size)
        ctx.shape, ctx.places = x.shape, {"squares": squares, "ends": ends, "size": size}
        out = x.new_empty(len(squares), x.shape[1], size, size)
        run(pooling.pool, x.contiguous(), out, ctx.shape, ctx.places)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        from .kernels import pooling

        out = grad.new_zeros(ctx.shape)
        run(pooling.pool_gradient, grad.contiguous(), out, ctx.shape, ctx.places)
        return out, None, None


def pool(x: Tensor, squares: Sequence[Square], size: int) -> Tensor:
    """The squares of pictures [B, C, H, W], each pooled as by `F.adaptive_avg_pool2d`:
    [N, C, size, size].
    """
    out: Tensor = Pooled.apply(x, torch.tensor(squares), size)
    return out
