"""Rows of numbers times a matrix: what each thread does."""

from __future__ import annotations

from .compiler import task
from .primitives import long_at, take
from .product import ROWS, multiply
from .threads import FIRST
from .vectors import BYTES

ARGUMENTS = "x weight output rows inner columns base chunk".split()
X, WEIGHT, OUTPUT, NUMBER, INNER, COUNT, BASE, CHUNK = range(FIRST, FIRST + len(ARGUMENTS))


@task
def linear(a: int) -> None:
    """ROWS rows or more."""
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
