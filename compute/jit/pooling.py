"""Squares of pictures, pooled to one size, and back: what each thread does.

A pixel of what comes out is the mean of those that it covers, wholly or in part, as PyTorch's
adaptive pooling has it. Rows are added first, in vectors.
"""

from __future__ import annotations

from .compiler import inline, task
from .primitives import float_at, long_at, put_float, put_long, take
from .threads import FIRST
from .vectors import BYTES

LONG = 8  # bytes of an integer
# Of each square: the picture, the place of its upper left corner, and its side.
IMAGE, TOP, LEFT, SIDE = range(4)
NUMBERS = 4
ARGUMENTS = "x output squares count images channels height width size scratch scratch_bytes".split()
X, OUTPUT, SQUARES, COUNT, IMAGES, CHANNELS, HEIGHT, WIDTH, SIZE, SCRATCH, SCRATCH_BYTES = range(
    FIRST, FIRST + len(ARGUMENTS)
)


def scratch_bytes(size: int, side: int) -> int:
    """What a thread needs for squares of so large a side at most."""
    return 2 * LONG * size + BYTES * side


@inline
def first_of(i: int, side: int, size: int) -> int:
    """The first pixel that the i-th of those that come out covers."""
    return i * side // size


@inline
def end_of(i: int, side: int, size: int) -> int:
    """The pixel behind the last that it covers."""
    return ((i + 1) * side + size - 1) // size


@inline
def write_ends(to: int, side: int, size: int) -> None:
    for i in range(size):
        put_long(to, 2 * i, first_of(i, side, size))
        put_long(to, 2 * i + 1, end_of(i, side, size))


@task
def pool(a: int) -> None:
    """Of [images, channels, height, width] to [count, channels, size, size]."""
    ends = long_at(a, SCRATCH) + take(a + 8) * long_at(a, SCRATCH_BYTES)
    channels, size, width = long_at(a, CHANNELS), long_at(a, SIZE), long_at(a, WIDTH)
    row = ends + 2 * LONG * size
    while True:
        part = take(a)
        if part >= long_at(a, COUNT) * channels:
            return
        square = long_at(a, SQUARES) + LONG * NUMBERS * (part // channels)
        side = long_at(square, SIDE)
        plane = long_at(square, IMAGE) * channels + part % channels
        line = plane * long_at(a, HEIGHT) + long_at(square, TOP)
        start = long_at(a, X) + BYTES * (line * width + long_at(square, LEFT))
        output = long_at(a, OUTPUT) + BYTES * part * size * size
        write_ends(ends, side, size)
        for i in range(size):
            first, end = first_of(i, side, size), end_of(i, side, size)
            for k in range(side):
                total = float_at(start + BYTES * (first * width + k))
                for line in range(first + 1, end):
                    total += float_at(start + BYTES * (line * width + k))
                put_float(row + BYTES * k, total)
            for j in range(size):
                left, right = long_at(ends, 2 * j), long_at(ends, 2 * j + 1)
                total = float_at(row + BYTES * left)
                for k in range(left + 1, right):
                    total += float_at(row + BYTES * k)
                share = 1.0 / ((end - first) * (right - left))
                put_float(output + BYTES * (i * size + j), total * share)


@task
def pool_gradient(a: int) -> None:
    """Adds to the gradient to the pictures, which is the output here; x is that to the squares."""
    ends = long_at(a, SCRATCH) + take(a + 8) * long_at(a, SCRATCH_BYTES)
    channels, size, width = long_at(a, CHANNELS), long_at(a, SIZE), long_at(a, WIDTH)
    row = ends + 2 * LONG * size
    while True:
        plane = take(a)  # each in one thread, which adds all squares of it
        if plane >= long_at(a, IMAGES) * channels:
            return
        for n in range(long_at(a, COUNT)):
            square = long_at(a, SQUARES) + LONG * NUMBERS * n
            if long_at(square, IMAGE) != plane // channels:
                continue
            side = long_at(square, SIDE)
            line = plane * long_at(a, HEIGHT) + long_at(square, TOP)
            start = long_at(a, OUTPUT) + BYTES * (line * width + long_at(square, LEFT))
            grad = long_at(a, X) + BYTES * (n * channels + plane % channels) * size * size
            write_ends(ends, side, size)
            for i in range(size):
                first, end = first_of(i, side, size), end_of(i, side, size)
                for k in range(side):
                    put_float(row + BYTES * k, 0.0)
                for j in range(size):
                    left, right = long_at(ends, 2 * j), long_at(ends, 2 * j + 1)
                    share = 1.0 / ((end - first) * (right - left))
                    share *= float_at(grad + BYTES * (i * size + j))
                    for k in range(left, right):
                        put_float(row + BYTES * k, float_at(row + BYTES * k) + share)
                for line in range(first, end):
                    for k in range(side):
                        to = start + BYTES * (line * width + k)
                        put_float(to, float_at(to) + float_at(row + BYTES * k))
