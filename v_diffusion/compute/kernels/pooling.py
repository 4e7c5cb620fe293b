"""Squares of pictures, pooled to one size, and back: what each thread does.

A pixel of what comes out is the mean of those that it covers, wholly or in part, as PyTorch's
adaptive pooling has it. Rows are added first, in vectors.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from llvmlite.ir import IRBuilder as Builder
from numba.core import cgutils

from .compiler import kernel, task
from .primitives import long_at, take
from .threads import FIRST
from .vectors import BYTES, FLOAT, pointer
from .vectors import LONG as INTEGER

LONG = 8  # bytes of an integer
# Of each square: the picture, the place of its upper left corner, and its side.
IMAGE, TOP, LEFT, SIDE = range(4)
NUMBERS = 4
# `ends`: of each square and each row or column that comes out the first that it covers, and the one
# behind the last.
ARGUMENTS = (
    "x output squares ends count images channels height width size scratch scratch_bytes".split()
)
(
    X,
    OUTPUT,
    SQUARES,
    ENDS,
    COUNT,
    IMAGES,
    CHANNELS,
    HEIGHT,
    WIDTH,
    SIZE,
    SCRATCH,
    SCRATCH_BYTES,
) = range(FIRST, FIRST + len(ARGUMENTS))


def number(builder: Builder, address: ir.Value, index: ir.Value) -> ir.Value:
    """A pointer to a number of an array."""
    return pointer(builder, address, builder.mul(index, INTEGER(BYTES)), FLOAT)


def bounds(builder: Builder, ends: ir.Value, i: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The i-th pair of integers of an array."""
    at = builder.add(ends, builder.mul(i, INTEGER(2 * LONG)))
    first, end = (builder.load(pointer(builder, at, k * LONG, INTEGER)) for k in range(2))
    return first, end


def quotient(builder: Builder, value: ir.Value, *counts: ir.Value) -> ir.Value:
    """A number divided by integers."""
    for count in counts:
        value = builder.fdiv(value, builder.sitofp(count, FLOAT))
    return value


def each(builder: Builder, start: ir.Value, end: ir.Value) -> Any:
    """A loop over integers; it gives the present one first."""
    return cgutils.for_range_slice(builder, start, end, INTEGER(1), intp=INTEGER)


@kernel
def pool_row(
    builder: Builder,
    start: ir.Value,
    width: ir.Value,
    ends: ir.Value,
    i: ir.Value,
    size: ir.Value,
    side: ir.Value,
    row: ir.Value,
    out: ir.Value,
) -> None:
    """The i-th row of what a square of pixels at an address becomes, `width` bytes from row to row.

    Args:
        row: room for `side` numbers.
    """
    top, bottom = bounds(builder, ends, i)
    total = cgutils.alloca_once(builder, FLOAT)
    zero = INTEGER(0)

    def add(place: ir.Value) -> None:
        builder.store(builder.fadd(builder.load(total), builder.load(place)), total)

    with each(builder, zero, side) as (k, _):
        builder.store(FLOAT(0.0), total)
        with each(builder, top, bottom) as (line, _):
            add(number(builder, builder.add(start, builder.mul(line, width)), k))
        builder.store(builder.load(total), number(builder, row, k))
    with each(builder, zero, size) as (j, _):
        left, right = bounds(builder, ends, j)
        builder.store(FLOAT(0.0), total)
        with each(builder, left, right) as (k, _):
            add(number(builder, row, k))
        covered = builder.sub(right, left), builder.sub(bottom, top)
        mean = quotient(builder, builder.load(total), *covered)
        builder.store(mean, number(builder, out, j))


@kernel
def unpool_row(
    builder: Builder,
    start: ir.Value,
    width: ir.Value,
    ends: ir.Value,
    i: ir.Value,
    size: ir.Value,
    side: ir.Value,
    row: ir.Value,
    grad: ir.Value,
) -> None:
    """Adds to a square what it has of the gradient to the i-th row of what it becomes."""
    top, bottom = bounds(builder, ends, i)
    zero = INTEGER(0)

    def add(place: ir.Value, value: ir.Value) -> None:
        builder.store(builder.fadd(builder.load(place), value), place)

    with each(builder, zero, side) as (k, _):
        builder.store(FLOAT(0.0), number(builder, row, k))
    with each(builder, zero, size) as (j, _):
        left, right = bounds(builder, ends, j)
        value = builder.load(number(builder, grad, j))
        share = quotient(builder, value, builder.sub(right, left), builder.sub(bottom, top))
        with each(builder, left, right) as (k, _):
            add(number(builder, row, k), share)
    with each(builder, top, bottom) as (line, _):
        pixels = builder.add(start, builder.mul(line, width))
        with each(builder, zero, side) as (k, _):
            add(number(builder, pixels, k), builder.load(number(builder, row, k)))


@task
def pool(a: int) -> None:
    """Of [images, channels, height, width] to [count, channels, size, size]."""
    row = long_at(a, SCRATCH) + take(a + 8) * long_at(a, SCRATCH_BYTES)
    channels, size, width = long_at(a, CHANNELS), long_at(a, SIZE), BYTES * long_at(a, WIDTH)
    while True:
        part = take(a)
        if part >= long_at(a, COUNT) * channels:
            return
        n = part // channels
        square = long_at(a, SQUARES) + LONG * NUMBERS * n
        ends, side = long_at(a, ENDS) + 2 * LONG * n * size, long_at(square, SIDE)
        plane = long_at(square, IMAGE) * channels + part - n * channels
        line = plane * long_at(a, HEIGHT) + long_at(square, TOP)
        start = long_at(a, X) + line * width + BYTES * long_at(square, LEFT)
        output = long_at(a, OUTPUT) + BYTES * part * size * size
        for i in range(size):
            pool_row(start, width, ends, i, size, side, row, output + BYTES * i * size)


@task
def pool_gradient(a: int) -> None:
    """Adds to the gradient to the pictures, which is the output here; x is that to the squares."""
    row = long_at(a, SCRATCH) + take(a + 8) * long_at(a, SCRATCH_BYTES)
    channels, size, width = long_at(a, CHANNELS), long_at(a, SIZE), BYTES * long_at(a, WIDTH)
    while True:
        plane = take(a)  # each in one thread, which adds all squares of it
        if plane >= long_at(a, IMAGES) * channels:
            return
        image = plane // channels
        for n in range(long_at(a, COUNT)):
            square = long_at(a, SQUARES) + LONG * NUMBERS * n
            if long_at(square, IMAGE) == image:
                ends, side = long_at(a, ENDS) + 2 * LONG * n * size, long_at(square, SIDE)
                line = plane * long_at(a, HEIGHT) + long_at(square, TOP)
                start = long_at(a, OUTPUT) + line * width + BYTES * long_at(square, LEFT)
                of = n * channels + plane - image * channels
                grad = long_at(a, X) + BYTES * of * size * size
                for i in range(size):
                    unpool_row(start, width, ends, i, size, side, row, grad + BYTES * i * size)
