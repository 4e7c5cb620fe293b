"""The product of matrices, block by block in the processor's registers."""

from collections.abc import Iterator

from .compiler import inline, kernel, task
from .vectors import BYTES, LANES, SIZE, Long, Vector, accumulate

# Of a block: vectors of columns, and rows. What its sums take of the registers leaves enough for
# the factors: an AVX-512 or NEON processor has 32, the others 16.
VECTORS = 2
ROWS = 6 if LANES == 8 else 8
COLUMNS = VECTORS * LANES


@kernel
def multiply_block(a: Long, b: Long, out: Long, inner: Long, columns: Long, base: Long) -> None:
    """Write COLUMNS columns of ROWS rows of a b + base; b's lie in one piece, [inner, COLUMNS]."""
    rows = [a + inner * (BYTES * i) for i in range(ROWS)]

    def terms(k: Long) -> Iterator[Vector]:
        factors = [(b + k * (BYTES * COLUMNS) + SIZE * v).load() for v in range(VECTORS)]
        for row in rows:
            number = (row + k * BYTES).spread()
            yield from (number * factor for factor in factors)

    at_first = [(base + SIZE * v).load() for v in range(VECTORS)]
    for i, total in enumerate(accumulate(inner, at_first * ROWS, terms)):
        (out + columns * (BYTES * (i // VECTORS)) + SIZE * (i % VECTORS)).store(total)


@inline
def multiply(a: int, b: int, out: int, rows: int, inner: int, columns: int, base: int) -> None:
    """Write a b + base of [rows, inner], [inner, columns] and a row.

    Rows and columns are multiples of ROWS and COLUMNS; b has COLUMNS columns in one piece.
    """
    for n in range(0, columns, COLUMNS):
        for m in range(0, rows, ROWS):
            at, to = a + BYTES * m * inner, out + BYTES * (m * columns + n)
            multiply_block(at, b + BYTES * n * inner, to, inner, columns, base + BYTES * n)


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
