"""The product of matrices, block by block in the processor's registers."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from .compiler import inline, kernel, task
from .primitives import long_at, take
from .threads import FIRST
from .vectors import BYTES, LANES, LONG, Vector, load, spread, store, variables

# Of a block: vectors of columns, and rows. What its sums take of the registers leaves enough for
# the factors: an AVX-512 or NEON processor has 32, the others 16.
VECTORS = 2
ROWS = 6 if LANES == 8 else 8
COLUMNS = VECTORS * LANES


@kernel
def multiply_block(
    builder: ir.IRBuilder,
    a: ir.Value,
    a_stride: ir.Value,
    b: ir.Value,
    out: ir.Value,
    out_stride: ir.Value,
    inner: ir.Value,
    base: ir.Value,
) -> None:
    """out = a b + base of [ROWS, inner] and [inner, COLUMNS], the latter in one piece.

    Args:
        a_stride, out_stride: from row to row, in numbers.
        base: the address of a row.
    """
    row_of_all = [load(builder, base, BYTES * LANES * v) for v in range(VECTORS)]
    sums = variables(builder, row_of_all * ROWS)

    def row(start: ir.Value, stride: ir.Value, i: int) -> ir.Value:
        return builder.add(start, builder.mul(stride, LONG(i * BYTES)))

    rows = [row(a, a_stride, i) for i in range(ROWS)]
    with cgutils.for_range(builder, inner, intp=LONG) as loop:
        across = builder.mul(loop.index, LONG(BYTES))
        down = builder.mul(loop.index, LONG(BYTES * COLUMNS))
        factors = [load(builder, builder.add(b, down), BYTES * LANES * v) for v in range(VECTORS)]
        for i in range(ROWS):
            number = spread(builder, rows[i], across)
            for v, factor in enumerate(factors):
                slot = sums[i * VECTORS + v]
                so_far = Vector(builder, builder.load(slot))
                builder.store((so_far + number * factor).value, slot)
    for i in range(ROWS):
        start = row(out, out_stride, i)
        for v in range(VECTORS):
            total = Vector(builder, builder.load(sums[i * VECTORS + v]))
            store(builder, total, start, BYTES * LANES * v)


@inline
def multiply(a: int, b: int, out: int, rows: int, inner: int, columns: int, base: int) -> None:
    """out = a b + base of [rows, inner], [inner, columns] and a row.

    Args:
        b: columns after columns, COLUMNS of them in one piece.
        rows: a multiple of ROWS.
        columns: a multiple of COLUMNS.
    """
    for n in range(0, columns, COLUMNS):
        for m in range(0, rows, ROWS):
            multiply_block(
                a + BYTES * m * inner,
                inner,
                b + BYTES * n * inner,
                out + BYTES * (m * columns + n),
                columns,
                inner,
                base + BYTES * n,
            )


ARGUMENTS = "x weight output rows inner columns base chunk".split()
X, WEIGHT, OUTPUT, NUMBER, INNER, COUNT, BASE, CHUNK = range(FIRST, FIRST + len(ARGUMENTS))


@task
def matmul(a: int) -> None:
    """What each thread does of a product of ROWS rows or more."""
    rows, inner, columns = long_at(a, NUMBER), long_at(a, INNER), long_at(a, COUNT)
    chunk, base, weight = long_at(a, CHUNK), long_at(a, BASE), long_at(a, WEIGHT)
    x, output = long_at(a, X), long_at(a, OUTPUT)
    while True:
        first = take(a) * chunk
        if first >= rows:
            return
        whole = min(chunk, rows - first) // ROWS * ROWS
        to = output + BYTES * first * columns
        multiply(x + BYTES * first * inner, weight, to, whole, inner, columns, base)
        if first + chunk >= rows and rows % ROWS:
            # The last rows once more with those that fill a block: they come out the same.
            first = rows - ROWS
            to = output + BYTES * first * columns
            multiply(x + BYTES * first * inner, weight, to, ROWS, inner, columns, base)
