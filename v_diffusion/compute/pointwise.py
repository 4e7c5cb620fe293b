"""Passes over the pixels of pictures between two convolutions, compiled.

Pictures are [B, C, H, W] of fp32 in channels_last; C fills the processor's vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import kernels
from .kernels import address


@dataclass(frozen=True)
class Rectifier:
    """relu(scale h + shift), of each channel; in scale and shift is h's normalisation, too.

    Args:
        scale, shift: [B, C].
        moments: [B, 2], the mean of each image of h and 1 over its standard deviation, if it is
            normalised.
    """

    scale: Tensor
    shift: Tensor
    moments: Tensor | None = None

    @property
    def values(self) -> dict[str, Tensor]:
        return {"scale": self.scale, "shift": self.shift}


@dataclass(frozen=True)
class Gradient:
    """The way back through a rectifier of h, for the gradient g to what came out.

    Args:
        more: [B, 3], what h has through its normalisation: a number to add, and another for each
            unit of h; and h's mean.
    """

    h: Tensor
    rectifier: Rectifier
    more: Tensor

    @property
    def values(self) -> dict[str, Tensor]:
        return {**self.rectifier.values, "h": self.h, "more": self.more}


def each_pixel(
    how: int,
    x: Tensor,
    values: dict[str, Tensor] | None = None,
    other: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Run a pointwise task; return its sums, [B, parts, 3], which are empty if it takes none."""
    from .kernels import pointwise as jit
    from .kernels.vectors import LANES

    b, c, h, w = x.shape
    parts = -(-h * w // jit.PIXELS) if how in (jit.MEASURE, jit.SUM_GRADIENT) else 0
    space = x.new_zeros(b * parts * (2 * LANES + 3))
    given = {"how": how, "images": b, "pixels": h * w, "channels": c, "x": address(x, b, c, h, w)}
    if parts:
        given["sums"] = address(space, b * parts * (2 * LANES + 3))
    for name, picture in (("other", other), ("output", out)):
        if picture is not None:
            given[name] = address(picture, b, c, h, w)
    for name, numbers in (values or {}).items():
        if name != "h":
            given[name] = address(numbers, b, 3 if name == "more" else c)
    kernels.share(jit.each_pixel, jit.ARGUMENTS, given)
    return space[2 * LANES * b * parts :].view(b, parts, 3)


def rectify(h: Tensor, through: Rectifier, added: Tensor | None = None) -> Tensor:
    """Return relu(scale h + shift), and another picture added."""
    from .kernels import pointwise as jit

    how = jit.RECTIFY if added is None else jit.RECTIFY_AND_ADD
    out = torch.empty_like(h)
    each_pixel(how, h, through.values, added, out)
    return out


def measure(h: Tensor) -> Tensor:
    """Return the moments of pictures as `winograd.convolve` does, [B, parts, 3]."""
    from .kernels import pointwise as jit

    return each_pixel(jit.MEASURE, h)


def modulate(h: Tensor, found: Tensor, modulation: Tensor) -> Rectifier:
    """Make the rectifier of h normalised over each whole image, scaled and shifted.

    Args:
        found: h's moments, [B, parts, 3].
        modulation: [B, 2 C] or [1, 2 C]; each channel's scale beyond 1, then each one's shift.
    """
    from .kernels import normalisation as jit

    b, c = h.shape[:2]
    a, shifted, moments = h.new_empty(b, c), h.new_empty(b, c), h.new_empty(b, 2)
    jit.modulation(
        address(found, b, found.shape[1], 3),
        found.shape[1],
        b,
        c,
        address(modulation, len(modulation), 2 * c),
        len(modulation),
        address(a, b, c),
        address(shifted, b, c),
        address(moments, b, 2),
    )
    return Rectifier(a, shifted, moments)


def only_rectify(h: Tensor) -> Rectifier:
    """Make the rectifier of pictures that are not normalised."""
    return Rectifier(h.new_ones(h.shape[:2]), h.new_zeros(h.shape[:2]))


def back(g: Tensor, h: Tensor, through: Rectifier) -> Gradient:
    """Prepare the way back through a rectifier of h for a gradient g."""
    from .kernels import normalisation as jit
    from .kernels import pointwise

    b, count = len(h), h[0].numel()
    found = Gradient(h, through, h.new_zeros(b, 3))
    if through.moments is not None:
        found.more[:, 2] = through.moments[:, 0]
        sums = each_pixel(pointwise.SUM_GRADIENT, g, found.values, h)
        parts = sums.shape[1]
        places = address(through.moments, b, 2), address(found.more, b, 3)
        jit.normalisation_gradient(address(sums, b, parts, 3), parts, b, count, *places)
    return found


def go_back(g: Tensor, gradient: Gradient) -> Tensor:
    """Return the gradient to h."""
    from .kernels import pointwise as jit

    out = torch.empty_like(g)
    each_pixel(jit.UNRECTIFY, g, gradient.values, gradient.h, out)
    return out
