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


def run(task: int, x: Tensor, output: Tensor, squares: Tensor, shape: torch.Size) -> None:
    """Runs a task on pictures of a shape."""
    from .jit import pooling, threads

    images, channels, height, width = shape
    size = (x if task == pooling.pool_gradient else output).shape[-1]
    many = threads.count()
    scratch_bytes = up(x.element_size() * max(height, width), ALIGNMENT)
    ends = ends_of(squares[:, pooling.SIDE], size)
    values: Values = {"x": x, "output": output, "squares": squares, "count": len(squares)}
    sizes = {"images": images, "channels": channels, "height": height, "width": width}
    scratch = torch.empty(many * scratch_bytes, dtype=torch.uint8)
    more: Values = {"size": size, "scratch": scratch, "scratch_bytes": scratch_bytes, "ends": ends}
    share(task, pooling.ARGUMENTS, {**values, **sizes, **more}, many)


class Pooled(torch.autograd.Function):
    """The pooled squares; the gradient goes to the pictures."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, squares: Tensor, size: int) -> Tensor:
        from .jit import pooling

        ctx.squares, ctx.shape = squares, x.shape
        out = x.new_empty(len(squares), x.shape[1], size, size)
        run(pooling.pool, x.contiguous(), out, squares, x.shape)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        from .jit import pooling

        out = grad.new_zeros(ctx.shape)
        run(pooling.pool_gradient, grad.contiguous(), out, ctx.squares, ctx.shape)
        return out, None, None


def pool(x: Tensor, squares: Sequence[Square], size: int) -> Tensor:
    """The squares of pictures [B, C, H, W], each pooled as by `F.adaptive_avg_pool2d`:
    [N, C, size, size].
    """
    out: Tensor = Pooled.apply(x, torch.tensor(squares), size)
    return out
