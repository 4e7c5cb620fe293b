"""3x3 convolutions by each way that there is, beside the one that the rule takes.

Shapes are those of CC12M_1 at 256x256 and of emoji_64, alone and in a batch. Each is done in turn
by every way, forward and back, with weights that are packed already.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from v_diffusion.compute import few_pixels, kernels, winograd

WAYS = DIRECT, FEW_PIXELS, TILES = "direct", "few pixels", "F(4x4)"


class Shape(NamedTuple):
    """Of a picture and of the weights that it meets."""

    batch: int
    channels: int
    filters: int
    side: int


SHAPES = [
    Shape(1, 19, 128, 256),
    Shape(1, 128, 128, 256),
    Shape(1, 128, 3, 256),
    Shape(1, 256, 256, 128),
    Shape(1, 256, 256, 64),
    Shape(1, 512, 512, 32),
    Shape(1, 512, 512, 16),
    Shape(1, 1024, 1024, 8),
    Shape(1, 1024, 1024, 4),
    Shape(4, 1024, 1024, 4),
    Shape(8, 1024, 1024, 4),
    Shape(1, 64, 64, 32),
    Shape(1, 128, 128, 16),
    Shape(1, 192, 192, 8),
    Shape(16, 64, 64, 32),
    Shape(16, 192, 192, 8),
]


def ways(shape: Shape) -> dict[str, Callable[[], Any]]:
    """What does the convolution each way that can."""
    layer = torch.nn.Conv2d(shape.channels, shape.filters, 3, padding=1)
    x = torch.randn(shape.batch, shape.channels, shape.side, shape.side)
    x = x.contiguous(memory_format=torch.channels_last)
    weight, bias = layer.weight, layer.bias
    found: dict[str, Callable[[], Any]] = {DIRECT: lambda: layer(x)}
    if few_pixels.supports(weight):
        found[FEW_PIXELS] = lambda: few_pixels.convolve(x, weight, bias)
    if kernels.available():
        tiles = winograd.pack(weight)
        found[TILES] = lambda: winograd.convolve(x, tiles, shape.filters, bias)
    return found


def taken(shape: Shape) -> str:
    """The way that the rule takes."""
    weight = torch.empty(shape.filters, shape.channels, 3, 3, device="meta")
    picture = torch.Size((shape.batch, shape.channels, shape.side, shape.side))
    if winograd.is_faster(picture, weight.shape):
        return TILES
    return FEW_PIXELS if few_pixels.is_faster(shape.batch * shape.side**2, weight) else DIRECT


def best(call: Callable[[], Tensor], times: int) -> float:
    """The milliseconds that it takes when nothing is in its way."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return 1000 * min(found)


@torch.no_grad()
def measure(rounds: int) -> list[dict[str, Any]]:
    """Of each shape the milliseconds of every way, and the way that is taken."""
    out = []
    for shape in SHAPES:
        torch.manual_seed(0)
        found = {name: best(call, 3 + 2 * rounds) for name, call in ways(shape).items()}
        out.append({**shape._asdict(), "milliseconds": found, "taken": taken(shape)})
    return out
