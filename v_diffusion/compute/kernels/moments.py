"""Moments of pictures, for their normalisation."""

from .compiler import float_at, inline, put_float
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
    """Write the count of some numbers, their mean and the sum of their squares around it.

    Given are two vectors of sums: of the numbers less `start`, and of the squares of those. Sums
    around 0 would lose the digits of numbers far from there.
    """
    total = sum_of(vectors)
    put_float(to, 1.0 * count)
    put_float(to + BYTES, start + total / count)
    put_float(to + 2 * BYTES, sum_of(vectors + SIZE) - total * total / count)
