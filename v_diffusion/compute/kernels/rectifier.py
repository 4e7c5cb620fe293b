"""relu(scale h + shift), what a convolution's output goes through, and its gradient.

Scale and shift, one of each channel, are normalisation and modulation in one.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from .vectors import BYTES, Vector, load, spread


def rectified(
    builder: ir.IRBuilder, channel: ir.Value, scale: ir.Value, shift: ir.Value
) -> Callable[[Vector], Vector]:
    """A function of h.

    Args:
        channel: in bytes.
        scale, shift: the addresses of each channel's.
    """
    a, b = load(builder, scale, channel), load(builder, shift, channel)
    return lambda h: (h * a + b).relu()


def unrectified(
    builder: ir.IRBuilder, channel: ir.Value, scale: ir.Value, shift: ir.Value, more: ir.Value
) -> Callable[[Vector, Vector], Vector]:
    """A function of g, the gradient to what comes out, and h: the gradient to h.

    Args:
        more: the address of what h has beside through its normalisation: of a number to add, and
            of another to add for each unit of h..
    """
    a, b = load(builder, scale, channel), load(builder, shift, channel)
    base, slope = spread(builder, more), spread(builder, more, BYTES)
    return lambda g, h: (g * a).where((h * a + b).positive()) + base + slope * h
