"""A convolution whose weights stay in the layout that the CPU's kernels compute with."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import winograd

# Up to this many pixels the weights are what takes time, not the picture.
FEW_PIXELS = 64


def can_pack() -> bool:
    """Whether this PyTorch has oneDNN's kernels for packed weights (those of its compiler)."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


def pack_weights(weight: Tensor, shape: torch.Size, padding: list[int]) -> Tensor:
    """The weights [K, C, H, W] in the best layout for pictures of a shape."""
    if winograd.pays(shape, weight):
        return winograd.transform(weight, shape)
    once = [1, 1]
    return torch.ops.mkldnn._reorder_convolution_weight(weight, padding, once, once, 1, list(shape))


def convolve(x: Tensor, weight: Tensor, packed: Tensor, bias: Tensor | None, padding: list[int]):
    """The convolution of x, channels_last, with weights and what `pack_weights` made of them."""
    if winograd.pays(x.shape, weight):
        return winograd.convolve(x, packed, bias, len(weight))
    once = [1, 1]
    return torch.ops.mkldnn._convolution_pointwise(
        x, packed, bias, padding, once, once, 1, "none", [], ""
    )


class PackedConvolution(torch.autograd.Function):
    """A convolution of stride 1 with packed weights; the gradient goes to x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: "Conv2d") -> Tensor:
        ctx.layer = layer
        packed = layer.packed_for("forward", x.shape, layer.weight)
        return convolve(x, layer.weight, packed, layer.bias, list(layer.padding))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.layer.gradient(grad), None


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` of stride 1 that `pack` can make keep packed copies of its weights."""

    packs = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.packs or x.device.type != "cpu" or x.dtype != torch.float32:
            return super().forward(x)
        return PackedConvolution.apply(x.contiguous(memory_format=torch.channels_last), self)

    def packed_for(self, use: str, shape: torch.Size, weight: Tensor) -> Tensor:
        """The weights packed for pictures of a shape: those kept for this use, if they fit."""
        # A packed layer follows its weights if they change.
        key = (shape, self.weight.data_ptr(), self.weight._version)
        if use not in self.packed or self.packed[use][0] != key:
            with torch.no_grad():
                self.packed[use] = key, pack_weights(weight, shape, list(self.padding))
        return self.packed[use][1]

    def gradient(self, grad: Tensor) -> Tensor:
        """The gradient to x of a convolution of stride 1."""
        turned = self.weight.transpose(0, 1)
        if winograd.pays(grad.shape, turned):
            grad = grad.contiguous(memory_format=torch.channels_last)
            turned = turned.flip(2, 3)
            packed = self.packed_for("backward", grad.shape, turned)
            return winograd.convolve(grad, packed, None, len(turned))
        # Weights as they are and a picture in the same order spare one pass over the weights.
        small = grad.shape[2] * grad.shape[3] <= FEW_PIXELS
        order = torch.contiguous_format if small else torch.channels_last
        grad = grad.contiguous(memory_format=order)
        grad_x = F.conv_transpose2d(grad, self.weight, padding=self.padding)
        return grad_x.contiguous(memory_format=torch.channels_last)


def pack(model: nn.Module, packs: bool = True) -> nn.Module:
    """Makes the convolutions of a model that isn't trained keep packed weights, from their first
    call on, or no longer. On a CPU a call then doesn't lay out the weights anew. Ask `can_pack`.
    """
    for module in model.modules():
        if isinstance(module, Conv2d):
            module.packs, module.packed = packs, {}
    return model
