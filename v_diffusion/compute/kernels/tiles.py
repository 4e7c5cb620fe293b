"""The transforms of Winograd's F(4x4, 3x3) on one tile and one vector of channels.

With g the weights and d the 6x6 pixels of a tile and its border,

    out = A^T [(G g G^T) * (B^T d B)] A

gives 4x4 pixels with 36 multiplications for 144 (Lavin and Gray 2015, arXiv 1509.09308, eq. 8; the
matrices are those of the points 0, 1, -1, 2, -2 and infinity).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .vectors import Vector

OUT, IN, TAPS = 4, 6, 3  # pixels of a tile's side, alone and with its border; weights of one
Row = Sequence[Vector]


def of_weights(g: Row) -> Row:
    """G g of 3 numbers."""
    even_1, odd_1 = (g[0] + g[2]) * (-1 / 6), g[1] * (1 / 6)
    even_2, odd_2 = g[0] * (1 / 24) + g[2] * (1 / 6), g[1] * (1 / 12)
    return (
        g[0] * (1 / 4),
        even_1 - odd_1,
        even_1 + odd_1,
        even_2 + odd_2,
        even_2 - odd_2,
        g[2],
    )


def into(d: Row) -> Row:
    """B^T d of 6 numbers."""
    even_1, odd_1 = d[4] - 4 * d[2], d[3] - 4 * d[1]
    even_2, odd_2 = d[4] - d[2], d[3] - d[1]
    return (
        4 * d[0] - 5 * d[2] + d[4],
        even_1 + odd_1,
        even_1 - odd_1,
        even_2 + 2 * odd_2,
        even_2 - 2 * odd_2,
        4 * d[1] - 5 * d[3] + d[5],
    )


def out_of(m: Row) -> Row:
    """A^T m of 6 numbers."""
    sum_1, difference_1 = m[1] + m[2], m[1] - m[2]
    sum_2, difference_2 = m[3] + m[4], m[3] - m[4]
    return (
        m[0] + sum_1 + sum_2,
        difference_1 + 2 * difference_2,
        sum_1 + 4 * sum_2,
        difference_1 + 8 * difference_2 + m[5],
    )


def both_ways(transform: Callable[[Row], Row], square: Sequence[Row]) -> list[Row]:
    """A transform of the columns of a square of numbers, and then of its rows."""
    columns = [transform(column) for column in zip(*square)]
    return [transform(row) for row in zip(*columns)]
