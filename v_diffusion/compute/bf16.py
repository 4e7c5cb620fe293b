"""Layers of the diffusion models that compute in bf16 on a CPU, with weights that don't change."""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion.models import blocks


def has(name: str) -> bool:
    """Return whether the processor has instructions by the name that PyTorch has for them."""
    return bool(getattr(torch.cpu, f"_is_{name}_supported", bool)())


@cache
def packs() -> bool:
    """Return whether oneDNN takes packed weights in bf16 here."""
    return bool(getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", bool)())


class Convolve(torch.autograd.Function):
    """A convolution, whose gradient to x is another with its weights turned."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: "Convolution", turned: bool) -> Tensor:
        ctx.layer, ctx.turned = layer, turned
        return layer.convolve(x, turned)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return Convolve.apply(grad, ctx.layer, not ctx.turned), None, None


class Convolution(nn.Module):
    """A convolution whose sides stay as they are, from any type to bf16, with weights packed at
    first use and, for the gradient, once more turned.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.padding = [layer.kernel_size[0] // 2] * 2
        self.bias = None if layer.bias is None else layer.bias.detach().bfloat16()
        self.weights = {False: layer.weight.detach().bfloat16()}

    def packed(self, turned: bool, shape: torch.Size) -> Tensor:
        """Return the weights for a picture of a shape; those as they are make place for these."""
        weight = self.weights.get(turned)
        if weight is None:
            weight = self.weights[False].to_dense().transpose(0, 1).flip(2, 3)
        if packs() and not weight.is_mkldnn:
            sizes = (self.padding, [1, 1], [1, 1], 1, list(shape))
            weight = torch.ops.mkldnn._reorder_convolution_weight(weight.contiguous(), *sizes)
        self.weights[turned] = weight
        return weight

    def convolve(self, x: Tensor, turned: bool) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        weight, bias = self.packed(turned, x.shape), None if turned else self.bias
        if not packs():
            return F.conv2d(x, weight, bias, padding=self.padding)
        how: tuple[Any, ...] = (self.padding, [1, 1], [1, 1], 1, "none", [], "")
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *how)

    def forward(self, x: Tensor) -> Tensor:
        return Convolve.apply(x.bfloat16(), self, False)


class Modulation(nn.Module):
    """The twin of a `Modulation`, each image in a pass that reads and writes bf16."""

    def __init__(self, module: blocks.Modulation) -> None:
        super().__init__()
        self.weight = module.layer.weight.detach().bfloat16()

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        found = F.linear(cond.bfloat16(), self.weight).float().expand(len(x), -1)
        scale, shift = found.chunk(2, dim=1)
        rows = zip(torch.split(x, 1), scale + 1, shift)
        return torch.cat([F.group_norm(a, 1, b, c, blocks.EPS) for a, b, c in rows]).relu_()
