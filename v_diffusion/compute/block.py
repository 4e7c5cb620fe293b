"""Two convolutions in a row, each rectified, and a skip: forward and back in few passes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import compiled, fused
from .convolution import Conv2d
from .fused import Rectifier


@dataclass(frozen=True)
class Pair:
    """What a block is made of.

    Args:
        first, second: its convolutions.
        skip: a convolution beside them, None where x itself is added to what they give.
        modulations: scale and shift of each one's normalised output, [B, C] or [1, C]; where there
            is none, outputs are not normalised.
        rectified: whether the second one's output is rectified.
    """

    first: Conv2d
    second: Conv2d
    skip: Conv2d | None
    modulations: tuple[tuple[Tensor, Tensor], ...] | None
    rectified: bool


def fits(x: Tensor, rectified: Iterable[nn.Module]) -> bool:
    """Whether `conv_block` can have x: on a CPU, with weights kept packed.

    Args:
        rectified: the convolutions whose output is rectified.
    """
    layers = [layer for layer in rectified if isinstance(layer, Conv2d)]
    return (
        all(layer.keeps(x) for layer in layers)
        and compiled.is_there()
        and fused.whole(layer.out_channels for layer in layers)
    )


def rectifier(pair: Pair, which: int, h: Tensor, sums: Tensor | None) -> Rectifier:
    """What the output of a convolution goes through."""
    if pair.modulations is None:
        return fused.only_rectify(h)
    assert sums is not None
    return fused.modulate(h, sums, *pair.modulations[which])


class FusedPair(torch.autograd.Function):
    """The block; the gradient goes to x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pair: Pair) -> Tensor:
        measured = pair.modulations is not None
        h, sums = pair.first.through(x, measured=measured)
        first = rectifier(pair, 0, h, sums)
        g, sums = pair.second.through(h, first, measured=measured and pair.rectified)
        beside = x if pair.skip is None else pair.skip.convolve(x)
        ctx.pair, ctx.first, ctx.second = pair, first, None
        if not pair.rectified:
            ctx.save_for_backward(h)
            return g + beside
        ctx.second = rectifier(pair, 1, g, sums)
        ctx.save_for_backward(h, g)
        return fused.rectify(g, ctx.second, beside)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        pair: Pair = ctx.pair
        h, *last = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        beside = grad if pair.skip is None else pair.skip.gradient(grad)
        after = fused.back(grad, last[0], ctx.second) if last else None
        inner = pair.second.gradient_through(grad, after)
        return pair.first.gradient_through(inner, fused.back(inner, h, ctx.first), beside), None


def conv_block(
    x: Tensor,
    first: nn.Module,
    second: nn.Module,
    skip: nn.Module,
    modulations: tuple[tuple[Tensor, Tensor], ...] | None,
    rectified: bool,
) -> Tensor:
    """The output of a block that `fits`, [B, K, H, W] in channels_last, with a pair's arguments."""
    assert isinstance(first, Conv2d) and isinstance(second, Conv2d)
    layer = skip if isinstance(skip, Conv2d) else None
    pair = Pair(first, second, layer, modulations, rectified)
    out: Tensor = FusedPair.apply(x.contiguous(memory_format=torch.channels_last), pair)
    return out
