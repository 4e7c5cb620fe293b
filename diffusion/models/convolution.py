"""A convolution whose weights stay in the layout that the CPU's kernels compute with."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Up to this many pixels the weights are what takes time, not the picture.
FEW_PIXELS = 64


def can_pack() -> bool:
    """Whether this PyTorch has oneDNN's kernels for packed weights (those of its compiler)."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


class PackedConvolution(torch.autograd.Function):
    """A convolution of stride 1 with packed weights; the gradient goes to x alone."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, packed: Tensor, padding: list[int]
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.padding = padding
        once = [1, 1]
        return torch.ops.mkldnn._convolution_pointwise(
            x, packed, bias, padding, once, once, 1, "none", [], ""
        )

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        # Weights as they are and a picture in the same order spare one pass over the weights.
        small = grad.shape[2] * grad.shape[3] <= FEW_PIXELS
        order = torch.contiguous_format if small else torch.channels_last
        grad_x = F.conv_transpose2d(
            grad.contiguous(memory_format=order), weight, padding=ctx.padding
        )
        return grad_x.contiguous(memory_format=torch.channels_last), None, None, None, None


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` of stride 1 that `pack` can make keep a packed copy of its weights."""

    packs = False
    packed: tuple[Any, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.packs or x.device.type != "cpu" or x.dtype != torch.float32:
            return super().forward(x)
        x = x.contiguous(memory_format=torch.channels_last)
        padding = list(self.padding)
        # The best layout depends on the shape of x. A packed layer follows its weights if they
        # change.
        key = (x.shape, self.weight.data_ptr(), self.weight._version)
        if self.packed is None or self.packed[0] != key:
            once = [1, 1]
            with torch.no_grad():
                packed = torch.ops.mkldnn._reorder_convolution_weight(
                    self.weight, padding, once, once, 1, list(x.shape)
                )
            self.packed = key, packed
        return PackedConvolution.apply(x, self.weight, self.bias, self.packed[1], padding)


def pack(model: nn.Module, packs: bool = True) -> nn.Module:
    """Makes the convolutions of a model that isn't trained keep packed weights, from their first
    call on, or no longer. On a CPU a call then doesn't lay out the weights anew. Ask `can_pack`.
    """
    for module in model.modules():
        if isinstance(module, Conv2d):
            module.packs, module.packed = packs, None
    return model
