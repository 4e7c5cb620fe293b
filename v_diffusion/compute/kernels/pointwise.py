"""What is done to each pixel of pictures by itself, and sums over pictures: what each thread does.

A part is some pixels of one image, the same for any number of threads, so that sums are rounded the
same.
"""

from __future__ import annotations

from llvmlite import ir
from llvmlite.ir import IRBuilder as Builder

from .compiler import kernel, task
from .primitives import float_at, long_at, put_float, put_moments, sum_of, take
from .rectifier import rectified, unrectified
from .threads import FIRST
from .vectors import BYTES, SIZE, Vector, load, spread, store

PIXELS = 256  # of a part, at most
# What is done.
RECTIFY, RECTIFY_AND_ADD, MEASURE, SUM_GRADIENT, UNRECTIFY = range(5)
ARGUMENTS = "how x other output images pixels channels scale shift more sums".split()
HOW, X, OTHER, OUTPUT, IMAGES, AREA, CHANNELS, SCALE, SHIFT, MORE, SUMS = range(
    FIRST, FIRST + len(ARGUMENTS)
)


def add_to(builder: Builder, sums: ir.Value, first: Vector, second: Vector) -> None:
    """Adds to the two vectors at an address."""
    store(builder, load(builder, sums) + first, sums)
    store(builder, load(builder, sums, SIZE) + second, sums, SIZE)


@kernel
def rectify_one(
    builder: Builder,
    h: ir.Value,
    out: ir.Value,
    channel: ir.Value,
    scale: ir.Value,
    shift: ir.Value,
) -> None:
    """out = relu(scale h + shift), of one vector."""
    store(builder, rectified(builder, channel, scale, shift)(load(builder, h)), out)


@kernel
def add_one(
    builder: Builder,
    h: ir.Value,
    other: ir.Value,
    out: ir.Value,
    channel: ir.Value,
    scale: ir.Value,
    shift: ir.Value,
) -> None:
    """out = relu(scale h + shift) + other, of one vector."""
    through = rectified(builder, channel, scale, shift)(load(builder, h))
    store(builder, through + load(builder, other), out)


@kernel
def measure_one(builder: Builder, h: ir.Value, first: ir.Value, sums: ir.Value) -> None:
    """Adds h, less the number at the address `first`, and the square of that to two vectors."""
    seen = load(builder, h) - spread(builder, first)
    add_to(builder, sums, seen, seen * seen)


@kernel
def unrectify_one(
    builder: Builder,
    g: ir.Value,
    h: ir.Value,
    out: ir.Value,
    channel: ir.Value,
    scale: ir.Value,
    shift: ir.Value,
    more: ir.Value,
) -> None:
    """out = the gradient to h, given that to what comes out, g; of one vector."""
    coefficients = [scale, shift, more]
    back = unrectified(builder, channel, *coefficients)
    store(builder, back(load(builder, g), load(builder, h)), out)


@kernel
def sum_one(
    builder: Builder,
    g: ir.Value,
    h: ir.Value,
    sums: ir.Value,
    channel: ir.Value,
    scale: ir.Value,
    shift: ir.Value,
    more: ir.Value,
) -> None:
    """Adds the gradient to h, and that times h less its mean, to two vectors."""
    coefficients = [scale, shift, more]
    seen = load(builder, h)
    found = unrectified(builder, channel, *coefficients)(load(builder, g), seen)
    add_to(builder, sums, found, found * (seen - spread(builder, more, 2 * BYTES)))


@task
def each_pixel(a: int) -> None:
    how, channels, area = long_at(a, HOW), long_at(a, CHANNELS), long_at(a, AREA)
    parts = (area + PIXELS - 1) // PIXELS
    row = BYTES * channels
    sums = long_at(a, SUMS)
    while True:
        part = take(a)
        if part >= parts * long_at(a, IMAGES):
            return
        image, first = part // parts, part % parts * PIXELS
        start = (image * area + first) * row
        pixels = min(PIXELS, area - first)
        scale, shift = long_at(a, SCALE) + image * row, long_at(a, SHIFT) + image * row
        more = long_at(a, MORE) + 3 * BYTES * image
        # Its two vectors, and behind all of those its three numbers.
        vectors = sums + 2 * SIZE * part
        for i in range(pixels):
            for channel in range(0, row, SIZE):
                at = start + i * row + channel
                x = long_at(a, X) + at
                other, output = long_at(a, OTHER) + at, long_at(a, OUTPUT) + at
                if how == RECTIFY:
                    rectify_one(x, output, channel, scale, shift)
                elif how == RECTIFY_AND_ADD:
                    add_one(x, other, output, channel, scale, shift)
                elif how == MEASURE:
                    measure_one(x, long_at(a, X) + start, vectors)
                elif how == SUM_GRADIENT:
                    sum_one(x, other, vectors, channel, scale, shift, more)
                else:
                    unrectify_one(x, other, output, channel, scale, shift, more)
        if sums:
            to = sums + 2 * SIZE * parts * long_at(a, IMAGES) + 3 * BYTES * part
            if how == MEASURE:
                put_moments(vectors, float_at(long_at(a, X) + start), pixels * channels, to)
            else:
                put_float(to, sum_of(vectors))
                put_float(to + BYTES, sum_of(vectors + SIZE))
