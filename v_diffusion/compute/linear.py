"""Linear layers that take compiled kernels on a CPU, or oneDNN's.

PyTorch's own product of fp32 matrices is MKL's, which leaves a sixth of an AMD processor unused;
its convolutions are oneDNN's, and one over single pixels is the same product.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import products
from .kept import Packed

# Whether this PyTorch has oneDNN's kernels.
has_onednn: Callable[[], bool] = torch.backends.mkldnn.is_available
# Below this many rows the weights are what takes time, and a convolution lays them out anew.
MANY_ROWS = 1024


def on_pixels(convolve: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What a convolution of single pixels makes of the rows of x [..., K]: [..., N]."""
    pixels = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)
    return convolve(pixels).permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


class FrozenLinear(torch.autograd.Function):
    """`F.linear` as a convolution. Its gradient goes to x alone, so that x need not be kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        kernel = weight[:, :, None, None]
        ctx.save_for_backward(kernel)
        return on_pixels(lambda pixels: F.conv2d(pixels, kernel, bias), x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (kernel,) = ctx.saved_tensors
        return on_pixels(lambda pixels: F.conv_transpose2d(pixels, kernel), grad), None, None


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, packed: Packed | None = None
) -> Tensor:
    """`F.linear`: x [..., K], weight [N, K], bias [N] or None, to [..., N].

    Args:
        packed: where packed copies of the weights are kept; None: nowhere.
    """
    frozen = not (weight.requires_grad or (bias is not None and bias.requires_grad))
    cpu = x.device.type == "cpu" and x.dtype == torch.float32
    rows = x.numel() // x.shape[-1]
    if frozen and cpu:
        out: Tensor
        if products.pays(rows, weight):
            out = products.PackedProduct.apply(x, weight, bias, packed)
            return out
        if has_onednn() and rows >= MANY_ROWS:
            out = FrozenLinear.apply(x, weight, bias)
            return out
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """`nn.Linear` by `linear`."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__(d_in, d_out)
        self.packed: Packed | None = {}

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias, self.packed)
