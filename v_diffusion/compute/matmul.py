"""Products of rows with weights that don't change, which are packed once, by compiled code.

PyTorch's own product of fp32 matrices is MKL's, which leaves a sixth of an AMD processor unused.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import kernels
from .kernels import address, once, round_up

MOST_ROWS = 64  # of a part: with their results they stay in the cache


def supports(rows: int, weight: Tensor) -> bool:
    """Return whether so many rows and weights [N, K] fill vectors, there and back."""
    if not kernels.available():
        return False
    from .kernels.product import COLUMNS, ROWS

    return rows >= ROWS and not any(count % COLUMNS for count in weight.shape)


def pack(matrix: Tensor) -> Tensor:
    """Lay out a matrix [K, N] for `multiply`: [N / COLUMNS, K, COLUMNS]."""
    from .kernels.product import COLUMNS

    inner, columns = matrix.shape
    return matrix.reshape(inner, columns // COLUMNS, COLUMNS).transpose(0, 1).contiguous()


def multiply(x: Tensor, packed: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply rows [M, K] by a matrix [K, N] and add a bias [N]: [M, N].

    Args:
        packed: of `pack`.
    """
    from .kernels import product, threads

    x = x.contiguous()
    (rows, inner), (blocks, _, width) = x.shape, packed.shape
    columns = blocks * width
    parts = round_up(-(-rows // MOST_ROWS), threads.count())
    out = x.new_empty(rows, columns)
    base = x.new_zeros(columns) if bias is None else bias
    values = {
        "x": address(x, rows, inner),
        "weight": address(packed, blocks, inner, width),
        "output": address(out, rows, columns),
        "base": address(base, columns),
        "rows": rows,
        "inner": inner,
        "columns": columns,
        "chunk": round_up(-(-rows // parts), product.ROWS),
    }
    kernels.share(product.matmul, product.ARGUMENTS, values)
    return out


class Product:
    """`F.linear` of rows [M, K] with weights [N, K] and a bias [N], which are shared.

    Args:
        spare: pack the weights anew each time.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, spare: bool) -> None:
        self.weight, self.bias = weight.detach(), None if bias is None else bias.detach()
        self.spare = spare
        self.packed: dict[str, Tensor] = {}

    def packed_for(self, use: str, matrix: Tensor) -> Tensor:
        """Return a matrix as `multiply` takes it, packed for a use the first time."""
        if self.spare:
            return pack(matrix)
        if use not in self.packed:
            with torch.inference_mode(False), torch.no_grad():
                self.packed[use] = pack(matrix)
        return self.packed[use]

    def forward(self, x: Tensor) -> Tensor:
        if not supports(len(x), self.weight):
            return F.linear(x, self.weight, self.bias)
        return multiply(x, self.packed_for("forward", self.weight.T), self.bias)

    def backward(self, grad: Tensor) -> Tensor:
        """Return the gradient to the rows, given that to what came out."""
        if not supports(len(grad), self.weight):
            return grad @ self.weight
        return multiply(grad, self.packed_for("backward", self.weight))


class Multiplied(torch.autograd.Function):
    """A `Product`; the gradient goes to x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, product: Product) -> Tensor:
        ctx.product = product
        return product.forward(x.flatten(0, -2)).view(*x.shape[:-1], -1)

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        product: Product = ctx.product
        return product.backward(grad.flatten(0, -2)).view(*grad.shape[:-1], -1), None


class Linear(nn.Module):
    """A `Product` as a layer, of [..., K]."""

    def __init__(self, weight: Tensor, bias: Tensor | None, spare: bool) -> None:
        super().__init__()
        self.product = Product(weight, bias, spare)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = Multiplied.apply(x, self.product)
        return out
