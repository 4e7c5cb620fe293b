"""What compiled tasks read and count with."""

from __future__ import annotations

from .compiler import inline, kernel
from .vectors import BYTES, FLOAT, LANES, LONG, SIZE, Float, Long


@kernel
def long_at(address: Long) -> Long:
    return address.number(LONG)


@kernel
def put_long(address: Long, value: Long) -> None:
    address.builder.store(value.value, address.pointer(LONG))


@kernel
def take(address: Long) -> Long:
    """Count the 64-bit integer at an address on by one, among threads; return what it was."""
    return address.builder.atomic_rmw("add", address.pointer(LONG), LONG(1), "seq_cst")


@kernel
def float_at(address: Long) -> Float:
    return address.number()


@kernel
def put_float(address: Long, value: Float) -> None:
    address.builder.store(value, address.pointer(FLOAT))


@inline
def sum_of(vector: int) -> float:
    """Return the sum over the lanes of the vector at an address."""
    total = 0.0
    for lane in range(LANES):
        total += float_at(vector + BYTES * lane)
    return total


@inline
def put_moments(vectors: int, start: float, count: int, to: int) -> None:
    """Write the count of numbers, their mean and the sum of their squares around that.

    Args:
        vectors: the address of two vectors, of sums of the numbers less `start` and of the squares
            of those: around 0, numbers far from there would lose their digits.
    """
    total = sum_of(vectors)
    put_float(to, 1.0 * count)
    put_float(to + BYTES, start + total / count)
    put_float(to + 2 * BYTES, sum_of(vectors + SIZE) - total * total / count)
