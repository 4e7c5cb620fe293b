"""The transforms of Winograd's F(4x4, 3x3) on one tile and one vector of channels.

With g the weights and d the 6x6 pixels of a tile and its border,

    out = A^T [(G g G^T) * (B^T d B)] A

gives 4x4 pixels with 36 multiplications for 144 (Lavin and Gray 2015, arXiv 1509.09308, eq. 8; the
matrices are those of the points 0, 1, -1, 2, -2 and infinity).

In kernels a tile's pixels are given by their addresses, 64-bit integers in a row, so that a pixel
beyond the picture may be any memory: zeros to read from, or what nobody reads to write to. A
transformed tile is 36 vectors, each `stride` bytes behind the last.
"""

from collections.abc import Callable, Iterator, Sequence

from .compiler import kernel
from .vectors import SIZE, Long, Vector, rectified, unrectified

OUT, IN, TAPS = 4, 6, 3  # pixels of a tile's side, alone and with its border; weights of one
Row = Sequence[Vector]


def of_weights(g: Row) -> Row:
    """Return G g of 3 numbers."""
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
    """Return B^T d of 6 numbers."""
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
    """Return A^T m of 6 numbers."""
    sum_1, difference_1 = m[1] + m[2], m[1] - m[2]
    sum_2, difference_2 = m[3] + m[4], m[3] - m[4]
    return (
        m[0] + sum_1 + sum_2,
        difference_1 + 2 * difference_2,
        sum_1 + 4 * sum_2,
        difference_1 + 8 * difference_2 + m[5],
    )


def both_ways(transform: Callable[[Row], Row], square: Row, side: int) -> list[Vector]:
    """Transform the columns of a square of numbers, and then its rows."""
    columns = [transform(square[i::side]) for i in range(side)]
    return [number for row in zip(*columns) for number in transform(row)]


def pixels(addresses: Long, side: int) -> Iterator[Long]:
    """Yield the addresses of a tile's pixels, each read where it is used."""
    return ((addresses + 8 * i).long() for i in range(side * side))


def beside(pixel: Long, away: Long, beyond: Long) -> Long:
    """Return a pixel of another picture, so far away; beyond the picture the same."""
    there = pixel.builder.select(pixel.is_not(beyond), (pixel + away).value, pixel.value)
    return Long(pixel.builder, there)


def put(square: Row, to: Long, stride: Long) -> None:
    for i, vector in enumerate(square):
        (to + stride * i).store(vector)


@kernel
def tile_in(addresses: Long, channel: Long, to: Long, stride: Long) -> None:
    """Write B^T d B of pixels as they are."""
    square = [(pixel + channel).load() for pixel in pixels(addresses, IN)]
    put(both_ways(into, square, IN), to, stride)


@kernel
def tile_in_rectified(
    addresses: Long, channel: Long, to: Long, stride: Long, beyond: Long, scale: Long, shift: Long
) -> None:
    """Write B^T d B of relu(scale pixel + shift); 0 of those at the address `beyond`."""
    rectify = rectified(scale, shift)

    def read(pixel: Long) -> Vector:
        return rectify((pixel + channel).load()).where(pixel.is_not(beyond))

    square = [read(pixel) for pixel in pixels(addresses, IN)]
    put(both_ways(into, square, IN), to, stride)


@kernel
def tile_in_gradient(
    addresses: Long,
    channel: Long,
    to: Long,
    stride: Long,
    beyond: Long,
    away: Long,
    scale: Long,
    shift: Long,
    more: Long,
) -> None:
    """Write B^T d B of `unrectified`, h being so far `away` from g; 0 of those `beyond`."""
    back = unrectified(scale, shift, more)

    def read(pixel: Long) -> Vector:
        h = (beside(pixel, away, beyond) + channel).load()
        return back((pixel + channel).load(), h).where(pixel.is_not(beyond))

    square = [read(pixel) for pixel in pixels(addresses, IN)]
    put(both_ways(into, square, IN), to, stride)


def products(start: Long, stride: Long) -> list[Vector]:
    """Return A^T m A of the products of a tile."""
    square = [(start + stride * i).load() for i in range(IN * IN)]
    return both_ways(out_of, square, IN)


@kernel
def tile_out(
    start: Long, stride: Long, addresses: Long, channel: Long, beyond: Long, bias: Long, sums: Long
) -> None:
    """Write A^T m A and the channels' bias to the pixels of a tile.

    At `sums` lie two vectors, to which what comes out and its square are added, and behind them a
    number that is subtracted from it first.
    """
    added, total, squares = bias.load(), sums.load(), (sums + SIZE).load()
    middle = (sums + 2 * SIZE).spread()
    for vector, pixel in zip(products(start, stride), pixels(addresses, OUT)):
        out = vector + added
        (pixel + channel).store(out)
        seen = (out - middle).where(pixel.is_not(beyond))
        total, squares = total + seen, squares + seen * seen
    sums.store(total)
    (sums + SIZE).store(squares)


@kernel
def tile_out_added(
    start: Long, stride: Long, addresses: Long, channel: Long, beyond: Long, away: Long
) -> None:
    """Write A^T m A added to other pixels, so far `away`, to the pixels of a tile."""
    for vector, pixel in zip(products(start, stride), pixels(addresses, OUT)):
        other = (beside(pixel, away, beyond) + channel).load()
        (pixel + channel).store(vector + other)


@kernel
def weights_in(weights: Long, step: Long, to: Long, stride: Long) -> None:
    """Write G g G^T of weights, each `step` bytes behind the last."""
    square = [(weights + step * i).load() for i in range(TAPS * TAPS)]
    put(both_ways(of_weights, square, TAPS), to, stride)
