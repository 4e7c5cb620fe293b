"""What compiled tasks read and count with."""

from __future__ import annotations

from llvmlite import ir
from numba import types

from .compiler import inline, kernel
from .vectors import BYTES, FLOAT, LANES, LONG, SIZE, pointer


def _long_at(builder: ir.IRBuilder, address: ir.Value, index: ir.Value) -> ir.Value:
    """The 64-bit integer of an index in an array at an address."""
    return builder.load(pointer(builder, address, builder.mul(index, LONG(8)), LONG))


def _put_long(builder: ir.IRBuilder, address: ir.Value, index: ir.Value, value: ir.Value) -> None:
    """Writes a 64-bit integer to an index in an array at an address."""
    builder.store(value, pointer(builder, address, builder.mul(index, LONG(8)), LONG))


def _take(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    """Counts the 64-bit integer at an address on by one, among threads; what it was before."""
    return builder.atomic_rmw("add", pointer(builder, address, 0, LONG), LONG(1), "seq_cst")


def _float_at(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    return builder.load(pointer(builder, address, 0, FLOAT))


def _put_float(builder: ir.IRBuilder, address: ir.Value, value: ir.Value) -> None:
    builder.store(value, pointer(builder, address, 0, FLOAT))


long_at = kernel(_long_at, types.int64)
put_long = kernel(_put_long)
take = kernel(_take, types.int64)
float_at = kernel(_float_at, types.float32)
put_float = kernel(_put_float, types.void, types.float32)


@inline
def sum_of(vector: int) -> float:
    """The sum over the lanes of the vector at an address."""
    total = 0.0
    for lane in range(LANES):
        total += float_at(vector + BYTES * lane)
    return total


@inline
def put_moments(vectors: int, start: float, count: int, to: int) -> None:
    """Writes the count of numbers, their mean and the sum of their squares around that.

    Args:
        vectors: the address of two vectors, of sums of the numbers less `start` and of the squares
            of those: around 0, numbers far from there would lose their digits.
    """
    total = sum_of(vectors)
    put_float(to, 1.0 * count)
    put_float(to + BYTES, start + total / count)
    put_float(to + 2 * BYTES, sum_of(vectors + SIZE) - total * total / count)
