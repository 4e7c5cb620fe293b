"""Rows of numbers times weights as they lie in their file: what each thread does.

Where a picture has few pixels its weights are what takes time: each is read for a few products. To
lay them out anew would take as long as several steps, and as much memory again. Here a row of
weights meets a row of pixels as dot products, which both are in order for.
"""

from __future__ import annotations

from llvmlite import ir
from llvmlite.ir import IRBuilder as Builder
from numba.core import cgutils

from .compiler import kernel, task
from .primitives import long_at, take
from .threads import FIRST
from .vectors import BYTES, FLOAT, INT, LANES, LONG, SIZE, Vector, load, pointer, variables, zero

# Of a block: rows and filters. Their sums fill one vector.
ROWS = 2
FILTERS = LANES // ROWS
# Of a piece of rows: so much of them stays in the cache while the filters pass.
VECTORS = 36
TAPS = 9
HALF = ir.VectorType(FLOAT, FILTERS)


def merged(builder: Builder, a: ir.Value, b: ir.Value, width: int) -> ir.Value:
    """Of groups of so many lanes the sums of each two neighbours, a's and b's in turn."""
    first = []
    for lane in range(LANES):
        group, rest = lane // (2 * width) * 2 * width, lane % (2 * width)
        first.append(group + rest if rest < width else LANES + group + rest - width)
    mask = ir.VectorType(INT, LANES)
    left = builder.shuffle_vector(a, b, ir.Constant(mask, first))
    right = builder.shuffle_vector(a, b, ir.Constant(mask, [lane + width for lane in first]))
    return builder.fadd(left, right)


def sums_of(builder: Builder, vectors: list[ir.Value]) -> ir.Value:
    """The sums over the lanes of as many vectors as one has lanes, in order."""
    width = 1
    while len(vectors) > 1:
        pairs = zip(vectors[::2], vectors[1::2])
        vectors = [merged(builder, a, b, width) for a, b in pairs]
        width *= 2
    return vectors[0]


@kernel
def add_dots(
    builder: Builder,
    row: ir.Value,
    other_row: ir.Value,
    weights: ir.Value,
    stride: ir.Value,
    vectors: ir.Value,
    out: ir.Value,
    other_out: ir.Value,
) -> None:
    """Adds the dot products of two rows with FILTERS rows of weights to numbers at two addresses.

    Args:
        stride: from row to row of the weights, in bytes.
        vectors: of each row.
    """
    sums = variables(builder, [zero(builder)] * LANES)
    starts = [builder.add(weights, builder.mul(stride, LONG(i))) for i in range(FILTERS)]
    with cgutils.for_range(builder, vectors, intp=LONG) as loop:
        across = builder.mul(loop.index, LONG(SIZE))
        pixels = [load(builder, start, across) for start in (row, other_row)]
        for i, start in enumerate(starts):
            factor = load(builder, start, across)
            for j, pixel in enumerate(pixels):
                slot = sums[j * FILTERS + i]
                total = Vector(builder, builder.load(slot)) + pixel * factor
                builder.store(total.value, slot)
    found = sums_of(builder, [builder.load(slot) for slot in sums])
    for j, to in enumerate((out, other_out)):
        lanes = [j * FILTERS + i for i in range(FILTERS)]
        mask = ir.Constant(ir.VectorType(INT, FILTERS), lanes)
        part = builder.shuffle_vector(found, found, mask)
        place = pointer(builder, to, 0, HALF)
        builder.store(builder.fadd(builder.load(place, align=BYTES), part), place, align=BYTES)


ARGUMENTS = "x weight output rows inner columns chunk dump".split()
X, WEIGHT, OUTPUT, NUMBER, INNER, COUNT, CHUNK, DUMP = range(FIRST, FIRST + len(ARGUMENTS))


@task
def dots(a: int) -> None:
    """Adds to the output, [rows, columns], which each thread has some columns of."""
    slot = take(a + 8)
    rows, inner, columns = long_at(a, NUMBER), long_at(a, INNER), long_at(a, COUNT)
    chunk = long_at(a, CHUNK)
    x, weight, output = long_at(a, X), long_at(a, WEIGHT), long_at(a, OUTPUT)
    dump = long_at(a, DUMP) + slot * SIZE
    while True:
        first = take(a) * chunk
        if first >= columns:
            return
        last = min(first + chunk, columns)
        for start in range(0, inner, VECTORS * LANES):
            vectors = min(VECTORS, (inner - start) // LANES)
            for column in range(first, last, FILTERS):
                of = weight + BYTES * (column * inner + start)
                for row in range(0, rows, ROWS):
                    at = x + BYTES * (row * inner + start)
                    to = output + BYTES * (row * columns + column)
                    if row + 1 < rows:
                        other, other_to = at + BYTES * inner, to + BYTES * columns
                    else:
                        other, other_to = at, dump
                    add_dots(at, other, of, BYTES * inner, vectors, to, other_to)


@kernel
def spread_out(builder: Builder, x: ir.Value, to: ir.Value, count: ir.Value) -> None:
    """Numbers in a row to every TAPS-th place of another. Of an address of 0 they are zeros."""
    there = builder.icmp_signed("!=", x, LONG(0))
    with cgutils.for_range(builder, count, intp=LONG) as loop:
        place = pointer(builder, to, builder.mul(loop.index, LONG(TAPS * BYTES)), FLOAT)
        with builder.if_else(there) as (here, beyond):
            with here:
                at = pointer(builder, x, builder.mul(loop.index, LONG(BYTES)), FLOAT)
                builder.store(builder.load(at), place)
            with beyond:
                builder.store(FLOAT(0.0), place)


AROUND = "x output images height width channels".split()
PICTURE, PATCHES, IMAGES, HEIGHT, WIDTH, CHANNELS = range(FIRST, FIRST + len(AROUND))


@task
def around(a: int) -> None:
    """The 3x3 pixels around each, as a row: [pixels, channels, 3, 3]."""
    height, width, channels = long_at(a, HEIGHT), long_at(a, WIDTH), long_at(a, CHANNELS)
    area = height * width
    while True:
        pixel = take(a)
        if pixel >= long_at(a, IMAGES) * area:
            return
        picture = long_at(a, PICTURE) + BYTES * (pixel // area) * area * channels
        to = long_at(a, PATCHES) + BYTES * pixel * TAPS * channels
        y, x = pixel % area // width, pixel % width
        for i in range(TAPS):
            row, column = y + i // 3 - 1, x + i % 3 - 1
            inside = 0 <= row < height and 0 <= column < width
            at = picture + BYTES * channels * (row * width + column) if inside else 0
            spread_out(at, to + BYTES * i, channels)
