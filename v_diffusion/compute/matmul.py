"""Products of rows with weights that don't change, which are packed once, by compiled code.

PyTorch's own product of fp32 matrices is MKL's, which leaves a sixth of an AMD processor unused.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import address, product, round_up
from .kernels.product import COLUMNS, ROWS

MOST_ROWS = 64  # of a part: with their results they stay in the cache


def pack(matrix: Tensor) -> Tensor:
    """Lay out a matrix [K, N] for `multiply`: [N / COLUMNS, K, COLUMNS]."""
    inner, columns = matrix.shape
    return matrix.reshape(inner, columns // COLUMNS, COLUMNS).transpose(0, 1).contiguous()


def packed_once(packed: dict[str, Tensor], use: str, make: Callable[[], Tensor]) -> Tensor:
    """Return weights laid out for a use, made by `make` the first time."""
    if use not in packed:
        with torch.inference_mode(False), torch.no_grad():
            packed[use] = make()
    return packed[use]


def multiply(x: Tensor, packed: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply rows [M, K] by a matrix [K, N] of `pack` and add a bias [N]: [M, N]."""
    x = x.contiguous()
    (rows, inner), (blocks, _, width) = x.shape, packed.shape
    columns = blocks * width
    parts = round_up(-(-rows // MOST_ROWS), torch.get_num_threads())
    out = x.new_empty(rows, columns)
    base = x.new_zeros(columns) if bias is None else bias
    chunk = round_up(-(-rows // parts), ROWS)
    factors = {"x": address(x, rows, inner), "weight": address(packed, blocks, inner, width)}
    results = {"output": address(out, rows, columns), "base": address(base, columns)}
    sizes = {"rows": rows, "inner": inner, "columns": columns, "chunk": chunk}
    product.matmul(-(-rows // chunk), **factors, **results, **sizes)
    return out


class Linear:
    """`F.linear` of [..., K], weights [N, K] and a bias [N]; packed anew each time if `spare`."""

    def __init__(self, weight: Tensor, bias: Tensor | None, spare: bool) -> None:
        self.weight, self.bias = weight.detach(), None if bias is None else bias.detach()
        self.packed: dict[str, Tensor] = {}
        self.spare = spare

    def multiply(self, x: Tensor, use: str, matrix: Tensor, bias: Tensor | None) -> Tensor:
        """Return x matrix + bias, packed for a use where they fill vectors."""
        rows = x.flatten(0, -2)
        if len(rows) < ROWS or any(count % COLUMNS for count in matrix.shape):
            return F.linear(x, matrix.T, bias)
        packed = packed_once({} if self.spare else self.packed, use, lambda: pack(matrix))
        return multiply(rows, packed, bias).view(*x.shape[:-1], -1)

    def forward(self, x: Tensor) -> Tensor:
        return self.multiply(x, "forward", self.weight.T, self.bias)

    def backward(self, grad: Tensor) -> Tensor:
        """Return the gradient to x, given that to what came out."""
        return self.multiply(grad, "backward", self.weight, None)
