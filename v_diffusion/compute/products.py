"""Rows of numbers times packed weights, by compiled code."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .compiled import Values, is_there, share, up
from .kept import Packed, kept

FEWEST = 128  # rows: with fewer, it doesn't pay to pack weights for one time
MOST = 64  # rows of a part: with their results they stay in the cache


def pays(rows: int, weight: Tensor, fewest: int = FEWEST) -> bool:
    """Whether to take this way with weights [N, K] and so many rows, and back."""
    if rows < fewest or not is_there():
        return False
    from .kernels.product import COLUMNS, ROWS

    return rows >= ROWS and not any(count % COLUMNS for count in weight.shape)


def pack(matrix: Tensor) -> Tensor:
    """A matrix [K, N], for `multiply`."""
    from .kernels.product import COLUMNS

    inner, columns = matrix.shape
    return matrix.reshape(inner, columns // COLUMNS, COLUMNS).transpose(0, 1).contiguous()


def multiply(x: Tensor, packed: Tensor, columns: int, base: Tensor | None = None) -> Tensor:
    """Rows [M, K] times a matrix [K, N], and a row added to each.

    Args:
        packed: of `pack`.
        columns: N.
    """
    from .kernels import linear, product, threads

    x = x.contiguous()
    rows, inner = x.shape
    many = threads.count()
    parts = up(-(-rows // MOST), many)
    out = x.new_empty(rows, columns)
    base = x.new_zeros(columns) if base is None else base
    values: Values = {"x": x, "weight": packed, "output": out, "base": base, "rows": rows}
    sizes = {"inner": inner, "columns": columns, "chunk": up(-(-rows // parts), product.ROWS)}
    share(linear.linear, linear.ARGUMENTS, {**values, **sizes}, many)
    return out


def forth(x: Tensor, weight: Tensor, bias: Tensor | None, packed: Packed | None) -> Tensor:
    """`F.linear` of rows [M, K] and weights [N, K], which are packed, and kept so if `packed` is
    there.
    """
    found = kept(packed, "rows", weight, lambda: pack(weight.T))
    return multiply(x, found, len(weight), bias)


def back(grad: Tensor, weight: Tensor, packed: Packed | None) -> Tensor:
    """The gradient to the rows, given that to what came out."""
    found = kept(packed, "turned rows", weight, lambda: pack(weight))
    return multiply(grad, found, weight.shape[1])


class PackedProduct(torch.autograd.Function):
    """`F.linear` by `forth`; the gradient goes to x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, packed: Packed) -> Tensor:
        ctx.weight, ctx.packed = weight, packed
        return forth(x.flatten(0, -2), weight, bias, packed).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        out = back(grad.flatten(0, -2), ctx.weight, ctx.packed)
        return out.view(*grad.shape[:-1], -1), None, None, None
