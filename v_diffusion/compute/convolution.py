"""A convolution whose weights stay in the layout that the CPU's kernels compute with."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import fused, products, unpacked, winograd
from .fused import Gradient, Rectifier
from .kept import Packed, kept

# Up to this many pixels the weights are what takes time, not the picture.
FEW_PIXELS = 64
# Weights transformed for gradients are a second copy. They are kept where they are no larger than
# so many pictures; where memory is short that is fewer, and the first copy has a limit, too.
ROOM, LITTLE_ROOM, FIRST_ROOM = 36, 3, 20


def can_pack() -> bool:
    """Whether this PyTorch has oneDNN's kernels for packed weights (those of its compiler)."""
    has_onednn: Callable[[], bool] = torch.backends.mkldnn.is_available
    return (
        has_onednn()
        and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


def as_rows(x: Tensor) -> Tensor:
    """Pictures [B, C, H, W] as rows of pixels, [B H W, C]."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def as_picture(rows: Tensor, like: Tensor) -> Tensor:
    """Rows of pixels [B H W, C] as pictures [B, C, H, W], with the sides of another."""
    b, _, h, w = like.shape
    return rows.view(b, h, w, -1).permute(0, 3, 1, 2)


class PackedConvolution(torch.autograd.Function):
    """A convolution of a layer that packs; the gradient goes to x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: "Conv2d") -> Tensor:
        ctx.layer = layer
        return layer.convolve(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        layer: Conv2d = ctx.layer
        return layer.gradient(grad), None


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` of stride 1 that `pack` can make keep packed copies of its weights."""

    padding: tuple[int, ...]  # never one of the words that `nn.Conv2d` takes
    packs = False
    packed: Packed
    spares_memory = False

    def keeps(self, x: Tensor) -> bool:
        """Whether its weights are kept packed for such pictures."""
        return self.packs and x.device.type == "cpu" and x.dtype == torch.float32

    def forward(self, x: Tensor) -> Tensor:
        if not self.keeps(x):
            return super().forward(x)
        x = x.contiguous(memory_format=torch.channels_last)
        out: Tensor = PackedConvolution.apply(x, self)
        return out

    def kept(self, use: str, shape: torch.Size | None, make: Callable[[], Tensor]) -> Tensor:
        """The weights packed for pictures of a shape: those kept for this use, if they fit."""
        return kept(self.packed, use, self.weight, make, shape)

    def matrix(self, x: Tensor) -> Tensor | None:
        """The weights of a convolution of single pixels, if it is to be a product of x's pixels."""
        if self.kernel_size != (1, 1):
            return None
        matrix = self.weight.flatten(1)
        return matrix if products.pays(x.numel() // x.shape[1], matrix, fewest=1) else None

    def through(
        self, x: Tensor, before: Rectifier | None = None, measured: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The convolution of x in channels_last, and sums over what comes out, if wanted.

        Args:
            before: what x goes through first.
        """
        if fused.pays(x.shape, self.weight, FIRST_ROOM if self.spares_memory else math.inf):
            packed = self.kept("tiles", None, lambda: fused.pack(self.weight))
            return fused.convolve(x, packed, self.out_channels, self.bias, before, None, measured)
        out = self.convolve_alone(x if before is None else fused.rectify(x, before))
        return out, fused.measure(out) if measured else None

    def convolve(self, x: Tensor) -> Tensor:
        """The convolution of x in channels_last, in the fastest way there is."""
        return self.through(x)[0]

    def convolve_alone(self, x: Tensor) -> Tensor:
        """The convolution without what may stand before it."""
        if unpacked.pays(x.numel() // x.shape[1], self.weight):
            return unpacked.convolve(x, self.weight, self.bias)
        if (matrix := self.matrix(x)) is not None:
            return as_picture(products.forth(as_rows(x), matrix, self.bias, self.packed), x)
        if winograd.pays(x.shape, self.weight, self.spares_memory):
            packed = self.kept("forward", x.shape, lambda: winograd.pack(self.weight, x.shape))
            return winograd.convolve(x, packed, self.bias, self.out_channels)
        return self.convolve_direct(x)

    def convolve_direct(self, x: Tensor) -> Tensor:
        """The convolution with as many multiplications as it has."""
        padding, once = list(self.padding), [1, 1]
        reorder = torch.ops.mkldnn._reorder_convolution_weight
        packed = self.kept(
            "forward",
            x.shape,
            lambda: reorder(self.weight, padding, once, once, 1, list(x.shape)),
        )
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, packed, self.bias, padding, once, once, 1, "none", [], ""
        )
        return out

    def gradient_through(
        self, grad: Tensor, before: Gradient | None = None, added: Tensor | None = None
    ) -> Tensor:
        """The gradient to x, given that to what came out, in channels_last; and another added.

        Args:
            before: what the given one goes back through first.
        """
        turned = self.weight.transpose(0, 1)
        if fused.pays(grad.shape, turned, LITTLE_ROOM if self.spares_memory else ROOM):
            packed = self.kept("turned tiles", None, lambda: fused.pack(turned.flip(2, 3)))
            grad = grad.contiguous(memory_format=torch.channels_last)
            return fused.convolve(grad, packed, self.in_channels, None, before, added)[0]
        grad_x = self.gradient_alone(grad if before is None else fused.go_back(grad, before))
        return grad_x if added is None else grad_x.add_(added)

    def gradient(self, grad: Tensor) -> Tensor:
        """The gradient to x, given that to what came out."""
        return self.gradient_through(grad)

    def gradient_alone(self, grad: Tensor) -> Tensor:
        """The gradient to x without what it may go back through first."""
        if not self.spares_memory and (matrix := self.matrix(grad)) is not None:
            return as_picture(products.back(as_rows(grad), matrix, self.packed), grad)
        turned = self.weight.transpose(0, 1)
        # Here there is a second copy of the weights only where it is a small one.
        if winograd.pays(grad.shape, turned, spare=True):
            grad = grad.contiguous(memory_format=torch.channels_last)
            packed = self.kept(
                "backward", grad.shape, lambda: winograd.pack(turned.flip(2, 3), grad.shape)
            )
            return winograd.convolve(grad, packed, None, self.in_channels)
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
