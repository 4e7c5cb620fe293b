"""Blocks of the networks whose weights don't change, forward and back in few passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from CLIP import model as clip
from diffusion.models import blocks

from . import pointwise
from .convolution import Convolution, in_order
from .kernels.product import COLUMNS
from .matmul import Linear

Backward = TypeVar("Backward", bound=Callable[..., Any])


def once(backward: Backward) -> Backward:
    """Make a Function's backward refuse to be differentiated again, whatever input is asked for."""

    def first(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():  # that is create_graph
            raise RuntimeError("a twin gives first derivatives alone; use the plain module")
        return backward(ctx, *grads)

    return first  # type: ignore[return-value]


class Once(torch.autograd.Function):
    """A layer's forward and backward; the gradient goes to x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Convolution | Linear) -> Tensor:
        ctx.layer = layer
        return layer.forward(in_order(x))

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.layer.backward(in_order(grad)), None


class Layer(nn.Module):
    """The twin of a convolution or a linear layer."""

    def __init__(self, layer: Convolution | Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return Once.apply(x, self.layer)


class Through(torch.autograd.Function):
    """A `ConvBlock`; the gradient goes to x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, block: ConvBlock, scales: list[Any]) -> Tensor:
        h, moments = block.first.measured(x, None, block.measured)
        first = pointwise.modulate(h, moments, scales[0])
        measured = block.measured and block.rectified
        g, moments = block.second.measured(h, first, measured)
        beside = x if block.skip is None else block.skip.forward(x)
        ctx.block, ctx.first, ctx.second = block, first, None
        if not block.rectified:
            ctx.save_for_backward(h)
            return g + beside
        ctx.second = pointwise.modulate(g, moments, scales[1])
        ctx.save_for_backward(h, g)
        return pointwise.rectify(g, ctx.second, beside)

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        block: ConvBlock = ctx.block
        h, *last = ctx.saved_tensors
        grad = in_order(grad)
        beside = grad if block.skip is None else block.skip.backward(grad)
        after = pointwise.back(grad, last[0], ctx.second) if last else None
        inner = block.second.backward(grad, after)
        before = pointwise.back(inner, h, ctx.first)
        return block.first.backward(inner, before, beside), None, None


class ConvBlock(nn.Module):
    """The twin of a `ConvBlock` or a `PlainConvBlock` of the networks, [B, C, H, W]."""

    def __init__(self, block: blocks.ConvBlock | blocks.PlainConvBlock, spare: bool) -> None:
        super().__init__()
        layers = [one for one in block.main.values() if isinstance(one, nn.Conv2d)]
        self.first, self.second = (Convolution(layer, spare) for layer in layers)
        skip = block.skip
        self.skip = Convolution(skip, spare) if isinstance(skip, nn.Conv2d) else None
        modulations = [one for one in block.main.values() if isinstance(one, blocks.Modulation)]
        self.modulations = [one.layer.weight.detach() for one in modulations]
        self.measured = isinstance(block, blocks.ConvBlock)
        self.rectified = bool(getattr(block, "rectified", len(modulations) == 2))

    def forward(self, x: Tensor, cond: Tensor | None) -> Tensor:
        scales: list[Any] = [None, None]
        if cond is not None:
            if torch.is_grad_enabled() and cond.requires_grad:
                text = "a twin gives no gradient to the time or the embedding"
                raise ValueError(f"{text}; use the plain module")
            scales = [*(F.linear(cond, weight) for weight in self.modulations), *scales]
        return Through.apply(in_order(x.float()), self, scales)


def supports(block: blocks.ConvBlock | blocks.PlainConvBlock) -> bool:
    """Return whether the channels that are rectified fill vectors."""
    layers = [one for one in block.main.values() if isinstance(one, nn.Conv2d)]
    rectified = len(block.main) == 4 or getattr(block, "rectified", False)
    return not any(layer.out_channels % COLUMNS for layer in layers[: 1 + rectified])


class TransformerBlock(nn.Module):
    """The twin of a block of CLIP's image tower, [L, B, width].

    The last one gives the first position alone, [1, B, width], at a sixth of the cost.
    """

    def __init__(
        self, block: clip.Block, norms: list[nn.Module], is_last: bool, spare: bool
    ) -> None:
        super().__init__()
        self.is_last = is_last
        self.ln_1, self.ln_2 = norms
        weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
        width = weight.shape[1]
        self.q = Layer(Linear(weight[:width], bias[:width], spare))
        self.kv = Layer(Linear(weight[width:], bias[width:], spare))
        layers: list[Any] = [block.attn.out_proj, block.mlp.c_fc, block.mlp.c_proj]
        self.out_proj, self.c_fc, self.c_proj = (
            Layer(Linear(one.weight, one.bias, spare)) for one in layers
        )

    def forward(self, x: Tensor) -> Tensor:
        length, b, width = x.shape
        h = self.ln_1(x)
        x, first = (x[:1], h[:1]) if self.is_last else (x, h)
        q = self.q(first).view(len(x), b, -1, clip.HEAD_WIDTH).permute(1, 2, 0, 3)
        kv = self.kv(h).view(length, b, 2, -1, clip.HEAD_WIDTH)
        k, v = kv.permute(2, 1, 3, 0, 4)
        heads = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out_proj(heads.permute(2, 0, 1, 3).reshape(x.shape))
        # x sigmoid(1.702 x), of which one tensor is kept for the way back
        h = F.silu(self.c_fc(self.ln_2(x)) * 1.702).mul_(1 / 1.702)
        return x + self.c_proj(h)


class Patches(nn.Module):
    """The twin of CLIP's first convolution as what it is, a linear layer on patches."""

    def __init__(self, layer: nn.Conv2d, spare: bool) -> None:
        super().__init__()
        self.side = layer.kernel_size[0]
        self.linear = Layer(Linear(layer.weight.flatten(1), None, spare))

    def forward(self, x: Tensor) -> Tensor:
        rows = F.unfold(x, self.side, stride=self.side).transpose(1, 2)
        down = x.shape[2] // self.side
        return self.linear(rows).transpose(1, 2).unflatten(2, (down, -1))
