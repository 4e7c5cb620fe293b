"""The product of matrices, block by block in the processor's registers."""

from __future__ import annotations

from collections.abc import Iterator

from .compiler import inline, kernel, task
from .vectors import BYTES, LANES, SIZE, Long, Vector, accumulate

# Of a block: vectors of columns, and rows. What its sums take of the registers leaves enough for
# the factors: an AVX-512 or NEON processor has 32, the others 16.
VECTORS = 2
ROWS = 6 if LANES == 8 else 8
COLUMNS = VECTORS * LANES


@kernel
def multiply_block(
    a: Long, a_stride: Long, b: Long, out: Long, out_stride: Long, inner: Long, base: Long
) -> None:
    """Write a b + base of [ROWS, inner], [inner, COLUMNS] in one piece, and a row.

    Args:
        a_stride, out_stride: from row to row, in bytes.
    """
    rows = [a + a_stride * i for i in range(ROWS)]

    def terms(k: Long) -> Iterator[Vector]:
        factors = [(b + k * (BYTES * COLUMNS) + SIZE * v).load() for v in range(VECTORS)]
        for row in rows:
            number = (row + k * BYTES).spread()
            yield from (number * factor for factor in factors)

    at_first = [(base + SIZE * v).load() for v in range(VECTORS)]
    for i, total in enumerate(accumulate(inner, at_first * ROWS, terms)):
        (out + out_stride * (i // VECTORS) + SIZE * (i % VECTORS)).store(total)


@inline
def multiply(a: int, b: int, out: int, rows: int, inner: int, columns: int, base: int) -> None:
    """Write a b + base of [rows, inner], [inner, columns] and a row.

    Args:
        b: columns after columns, COLUMNS of them in one piece.
        rows: a multiple of ROWS.
        columns: a multiple of COLUMNS.
    """
    for n in range(0, columns, COLUMNS):
        for m in range(0, rows, ROWS):
            multiply_block(
                a + BYTES * m * inner,
                BYTES * inner,
                b + BYTES * n * inner,
                out + BYTES * (m * columns + n),
                BYTES * columns,
                inner,
                base + BYTES * n,
            )


@task
def matmul(
    thread: int,
    part: int,
    x: int,
    weight: int,
    output: int,
    rows: int,
    inner: int,
    columns: int,
    base: int,
    chunk: int,
) -> None:
    """Write x weight + base, [rows, columns] of ROWS rows or more; a part is a chunk of rows."""
    first = part * chunk
    whole = min(chunk, rows - first) // ROWS * ROWS
    to = output + BYTES * first * columns
    multiply(x + BYTES * first * inner, weight, to, whole, inner, columns, base)
    if first + chunk >= rows and rows % ROWS:
        # The last rows once more with those that fill a block: they come out the same.
        first = rows - ROWS
        to = output + BYTES * first * columns
        multiply(x + BYTES * first * inner, weight, to, ROWS, inner, columns, base)
