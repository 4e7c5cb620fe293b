"""3x3 convolutions of padding 1 by Winograd's F(4x4, 3x3), whole: what each thread does.

A picture is cut into 4x4 tiles. Pieces of tiles stay in the processor's cache: their pixels are
transformed, 36 products taken with the transformed weights, and those transformed back. What
stands before a convolution in a network (normalisation, modulation, ReLU) is done to its pixels as
they are read, and the moments of what comes out, for the next normalisation, are taken as it is
written.
"""

from .compiler import float_at, inline, long_at, put_float, put_long, task
from .moments import put_moments
from .product import COLUMNS, multiply
from .tiles import (
    IN,
    OUT,
    tile_in,
    tile_in_gradient,
    tile_in_rectified,
    tile_out,
    tile_out_added,
    weights_in,
)
from .vectors import BYTES, LANES, SIZE

PRODUCTS = IN * IN


def scratch_bytes(tiles: int, channels: int, filters: int) -> int:
    """Return what a thread needs for pieces of so many tiles."""
    numbers = PRODUCTS * tiles * (channels + filters) + filters + 3 * LANES
    return numbers * BYTES + PRODUCTS * 8


@inline
def put_addresses(
    to: int, picture: int, y: int, x: int, height: int, width: int, row: int, side: int, beyond: int
) -> None:
    """Write the addresses of a square's pixels at (y, x), and of those outside, `beyond`."""
    for i in range(side):
        for j in range(side):
            where = beyond
            if 0 <= y + i < height and 0 <= x + j < width:
                where = picture + row * ((y + i) * width + x + j)
            put_long(to + 8 * (i * side + j), where)


@task
def convolve(
    thread: int,
    part: int,
    x: int,
    weight: int,
    output: int,
    height: int,
    width: int,
    channels: int,
    filters: int,
    tiles: int,
    scale: int,
    shift: int,
    other: int,
    more: int,
    bias: int,
    added: int,
    moments: int,
    zeros: int,
    scratch: int,
    scratch_size: int,
) -> None:
    """Convolve pictures x of so many channels; a part is a piece of so many tiles of one.

    With a scale and shift x is rectified first; with other and more, h's and `unrectified`'s, it is
    a gradient. Without an `added` picture a bias is added. `moments` get those of each part.
    """
    down, across = (height + OUT - 1) // OUT, (width + OUT - 1) // OUT
    pieces = (down * across + tiles - 1) // tiles
    row_in, row_out = BYTES * channels, BYTES * filters
    stride, stride_out = tiles * row_in, tiles * row_out
    transformed = scratch + thread * scratch_size
    products = transformed + PRODUCTS * stride
    dump = products + PRODUCTS * stride_out
    sums = dump + row_out
    places = sums + 3 * SIZE
    image, first = part // pieces, part % pieces * tiles
    picture = x + image * height * width * row_in
    a, b, c = scale + image * row_in, shift + image * row_in, more + 3 * BYTES * image
    last = min(first + tiles, down * across)
    for tile in range(first, last):
        top, left = tile // across * OUT - 1, tile % across * OUT - 1
        put_addresses(places, picture, top, left, height, width, row_in, IN, zeros)
        to = transformed + (tile - first) * row_in
        for n in range(0, row_in, SIZE):
            if not scale:
                tile_in(places, n, to + n, stride)
            elif not other:
                tile_in_rectified(places, n, to + n, stride, zeros, a + n, b + n)
            else:
                tile_in_gradient(places, n, to + n, stride, zeros, other - x, a + n, b + n, c)
    for k in range(PRODUCTS):
        of, to = transformed + k * stride, products + k * stride_out
        multiply(of, weight + k * channels * row_out, to, tiles, channels, filters, zeros)
    picture = output + image * height * width * row_out
    put_float(sums + 2 * SIZE, 0.0)
    if moments:  # which are taken around the first number
        top, left = first // across * OUT, first % across * OUT
        put_addresses(places, picture, top, left, height, width, row_out, OUT, dump)
        tile_out(products, stride_out, places, 0, dump, bias, sums)
        put_float(sums + 2 * SIZE, float_at(long_at(places)))
    for i in range(2 * LANES):
        put_float(sums + BYTES * i, 0.0)
    pixels = 0
    for tile in range(first, last):
        top, left = tile // across * OUT, tile % across * OUT
        put_addresses(places, picture, top, left, height, width, row_out, OUT, dump)
        pixels += min(OUT, height - top) * min(OUT, width - left)
        of = products + (tile - first) * row_out
        for n in range(0, row_out, SIZE):
            if added:
                tile_out_added(of + n, stride_out, places, n, dump, added - output)
            else:
                tile_out(of + n, stride_out, places, n, dump, bias + n, sums)
    if moments:
        start, to = float_at(sums + 2 * SIZE), moments + 3 * BYTES * part
        put_moments(sums, start, pixels * filters, to)


@task
def pack(thread: int, part: int, x: int, output: int, channels: int, filters: int) -> None:
    """Write G g G^T of a channel's weights, [3, 3, channels, filters], in `multiply`'s order."""
    size = BYTES * channels * filters
    for n in range(0, filters, LANES):
        block, lane = n // COLUMNS * COLUMNS, n % COLUMNS
        weights = x + BYTES * (part * filters + n)
        to = output + BYTES * (block * channels + part * COLUMNS + lane)
        weights_in(weights, size, to, size)
