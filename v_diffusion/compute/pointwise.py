"""Passes over the pixels of pictures between two convolutions, compiled.

Pictures are [B, C, H, W] of fp32 in channels_last; C fills the processor's vectors.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .kernels import address, addresses
from .kernels import pointwise as jit
from .kernels.moments import modulation as modulation_of
from .kernels.vectors import LANES


@dataclass(frozen=True)
class Rectifier:
    """relu(scale h + shift), with h's normalisation in it; or the way back through that.

    Args:
        moments: [B, 2] in fp64, h's mean and 1 over its standard deviation, if it is normalised.
        h, more: on the way back h, and [B, 3], what h has through its normalisation: a number to
            add, and another for each unit of h; and h's mean.
    """

    scale: Tensor  # [B, C], as the shift
    shift: Tensor
    moments: Tensor | None = None
    h: Tensor | None = None
    more: Tensor | None = None

    @property
    def values(self) -> dict[str, Tensor | None]:
        """The tensors that kernels take, by their names there."""
        return {"scale": self.scale, "shift": self.shift, "other": self.h, "more": self.more}


def each_pixel(how: int, x: Tensor, **tensors: Tensor | None) -> Tensor:
    """Run a pointwise task; return its sums, [B, parts, 3], if it takes any."""
    b, c, h, w = x.shape
    parts = -(-h * w // jit.PIXELS)
    summed = b * parts * (how in (jit.MEASURE, jit.SUM_GRADIENT))
    sums, found = x.new_zeros(summed, 2 * LANES), x.new_zeros(summed, 3)
    places = {"sums": address(sums, *sums.shape), "found": address(found, *found.shape)}
    places.update(addresses(x, {"x": x, **tensors}))
    jit.each_pixel(b * parts, how=how, area=h * w, channels=c, **places)
    return found.view(b, -1, 3)


def rectify(h: Tensor, through: Rectifier, added: Tensor | None = None) -> Tensor:
    """Return relu(scale h + shift), and another picture added."""
    how = jit.RECTIFY if added is None else jit.RECTIFY_AND_ADD
    out = torch.empty_like(h)
    each_pixel(how, h, **{**through.values, "other": added, "output": out})
    return out


def measure(h: Tensor) -> Tensor:
    """Return the moments of pictures as `winograd.convolve` does, [B, parts, 3]."""
    return each_pixel(jit.MEASURE, h)


def modulate(h: Tensor, found: Tensor | None, modulation: Tensor | None) -> Rectifier:
    """Make the rectifier of h normalised over each whole image, scaled and shifted.

    Args:
        found: h's moments, [B, parts, 3]; None if h is only rectified.
        modulation: [B, 2 C] or [1, 2 C], each channel's scale beyond 1, then each one's shift.
    """
    b, c = h.shape[:2]
    if found is None or modulation is None:
        return Rectifier(h.new_ones(b, c), h.new_zeros(b, c))
    given = modulation.expand(b, -1).contiguous().view(b, 2, c)
    to, moments = h.new_empty(2, b, c), h.new_empty(b, 2, dtype=torch.float64)
    modulation_of(*(one.numpy() for one in (found, given, to, moments)))
    return Rectifier(to[0], to[1], moments)


def back(g: Tensor, h: Tensor, through: Rectifier) -> Rectifier:
    """Prepare the way back through a rectifier of h for a gradient g."""
    if through.moments is None:
        return replace(through, h=h, more=h.new_zeros(len(h), 3))
    mean, over = through.moments.unbind(1)
    zero = torch.zeros_like(mean)
    found = replace(through, h=h, more=torch.stack([zero, zero, mean], 1).float())
    sums = each_pixel(jit.SUM_GRADIENT, g, **found.values).double().sum(1) / h[0].numel()
    slope = -over.square() * sums[:, 1]
    return replace(found, more=torch.stack([-sums[:, 0] - mean * slope, slope, mean], 1).float())


def go_back(g: Tensor, through: Rectifier) -> Tensor:
    """Return the gradient to h."""
    out = torch.empty_like(g)
    each_pixel(jit.UNRECTIFY, g, **through.values, output=out)
    return out
