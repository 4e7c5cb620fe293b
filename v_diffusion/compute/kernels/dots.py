"""Rows of numbers times weights as they lie in their file: what each thread does.

Where a picture has few pixels its weights are what takes time: each is read for a few products. To
lay them out anew would take as long as several steps, and as much memory again. Here a row of
weights meets a row of pixels as dot products, which both are in order for.
"""

from collections.abc import Iterator

from llvmlite import ir

from .compiler import kernel, task
from .vectors import BYTES, FLOAT, INT, LANES, SIZE, ZERO, Long, Vector, accumulate

# Of a block: rows and filters. Their sums fill one vector.
PAIR = 2
FILTERS = LANES // PAIR
# Vectors of a piece of rows: so much of them stays in the cache while the filters pass.
STRETCH = 36
HALF = ir.VectorType(FLOAT, FILTERS)


def shuffled(a: Vector, b: Vector, lanes: list[int]) -> ir.Value:
    mask = ir.Constant(ir.VectorType(INT, len(lanes)), lanes)
    return a.builder.shuffle_vector(a.value, b.value, mask)


def merged(a: Vector, b: Vector, width: int) -> Vector:
    """Return of groups of so many lanes the sums of each two neighbours, a's and b's in turn."""
    first = []
    for lane in range(LANES):
        group, rest = lane // (2 * width) * 2 * width, lane % (2 * width)
        first.append(group + rest if rest < width else LANES + group + rest - width)
    left, right = shuffled(a, b, first), shuffled(a, b, [lane + width for lane in first])
    return Vector(a.builder, a.builder.fadd(left, right))


def sums_of(vectors: list[Vector]) -> Vector:
    """Return the sums over the lanes of as many vectors as one has lanes, in order."""
    width = 1
    while len(vectors) > 1:
        vectors = [merged(a, b, width) for a, b in zip(vectors[::2], vectors[1::2])]
        width *= 2
    return vectors[0]


@kernel
def add_dots(
    row: Long, other: Long, weights: Long, stride: Long, vectors: Long, out: Long, other_out: Long
) -> None:
    """Add the dot products of two rows, of so many vectors, with FILTERS rows of weights, which are
    `stride` bytes apart, to numbers at two addresses.
    """
    starts = [weights + stride * i for i in range(FILTERS)]

    def terms(k: Long) -> Iterator[Vector]:
        pixels = [(start + k * SIZE).load() for start in (row, other)]
        for start in starts:
            factor = (start + k * SIZE).load()
            yield from (pixel * factor for pixel in pixels)

    sums = accumulate(vectors, [Vector(row.builder, ZERO)] * LANES, terms)
    found = sums_of([one for j in range(PAIR) for one in sums[j::PAIR]])
    for j, to in enumerate((out, other_out)):
        part = shuffled(found, found, [j * FILTERS + i for i in range(FILTERS)])
        place, builder = to.pointer(HALF), to.builder
        builder.store(builder.fadd(builder.load(place, align=BYTES), part), place, align=BYTES)


@task
def dots(
    thread: int,
    part: int,
    x: int,
    weight: int,
    output: int,
    rows: int,
    inner: int,
    columns: int,
    chunk: int,
    dump: int,
) -> None:
    """Add x weight^T to the output, [rows, columns]; a part is a chunk of columns."""
    last = min((part + 1) * chunk, columns)
    for start in range(0, inner, STRETCH * LANES):
        vectors = min(STRETCH, (inner - start) // LANES)
        for column in range(part * chunk, last, FILTERS):
            of = weight + BYTES * (column * inner + start)
            for row in range(0, rows, PAIR):
                at = x + BYTES * (row * inner + start)
                to = output + BYTES * (row * columns + column)
                if row + 1 < rows:
                    other, other_to = at + BYTES * inner, to + BYTES * columns
                else:
                    other, other_to = at, dump + thread * SIZE
                add_dots(at, other, of, BYTES * inner, vectors, to, other_to)
