"""Moments of pictures, for their normalisation."""

from functools import partial
from typing import Any

import numba
import numpy as np

from diffusion.models.blocks import EPS

from .compiler import float_at, inline, kept, put_float
from .vectors import BYTES, LANES, SIZE


@inline
def sum_of(vector: int) -> float:
    """Return the sum over the lanes of the vector at an address."""
    total = 0.0
    for lane in range(LANES):
        total += float_at(vector + BYTES * lane)
    return total


@inline
def put_moments(vectors: int, start: float, count: int, to: int) -> None:
    """Write the count of some numbers, their mean and the sum of their squares around it, given
    sums of the numbers less `start` and of the squares of those. Around 0 they would lose digits.
    """
    total = sum_of(vectors)
    put_float(to, 1.0 * count)
    put_float(to + BYTES, start + total / count)
    put_float(to + 2 * BYTES, sum_of(vectors + SIZE) - total * total / count)


@partial(kept, numba.njit, "void(f4[:,:,::1], f4[:,:,::1], f4[:,:,::1], f8[:,::1])")
def modulation(found: Any, given: Any, to: Any, moments: Any) -> None:
    """Write the scale and shift of h, [2, images, channels], that normalise and modulate it, and
    its mean and 1 over its standard deviation, from its parts' moments and a modulation.
    """
    for image in range(len(found)):
        parts = found[image].astype(np.float64)
        total = parts[:, 0].sum()
        mean = (parts[:, 0] * parts[:, 1]).sum() / total
        squares = (parts[:, 2] + parts[:, 0] * (parts[:, 1] - mean) ** 2).sum()
        over = (squares / total + EPS) ** -0.5
        factor = (1 + given[image, 0]) * over
        to[0, image], to[1, image] = factor, given[image, 1] - mean * factor
        moments[image, 0], moments[image, 1] = mean, over
