"""3x3 convolutions of padding 1 by Winograd's F(4x4, 3x3), whole: what each thread does.

A picture is cut into 4x4 tiles. Pieces of tiles stay in the processor's cache: their pixels are
transformed, 36 products taken with the transformed weights, and those transformed back. What
stands before a convolution in a network (normalisation, modulation, ReLU) is done to its pixels as
they are read, and the moments of what comes out, for the next normalisation, are taken as it is
written.
"""

from __future__ import annotations

from .compiler import inline, task
from .primitives import float_at, long_at, put_float, put_long, put_moments, take
from .product import COLUMNS, multiply
from .threads import FIRST
from .tiles import IN, OUT
from .transforms import (
    tile_in,
    tile_in_gradient,
    tile_in_rectified,
    tile_out,
    tile_out_added,
    weights_in,
)
from .vectors import BYTES, LANES, SIZE

PRODUCTS = IN * IN
PIXELS = OUT * OUT
# What is done to the pixels as they are read.
PLAIN, RECTIFIED, GRADIENT = 0, 1, 2
# The arguments' places.
ARGUMENTS = (
    "x weight output images height width channels filters tiles how away scale shift more bias "
    "added moments zeros scratch scratch_bytes"
).split()
(
    X,
    WEIGHT,
    OUTPUT,
    IMAGES,
    HEIGHT,
    WIDTH,
    CHANNELS,
    FILTERS,
    TILES,
    HOW,
    AWAY,
    SCALE,
    SHIFT,
    MORE,
    BIAS,
    ADDED,
    MOMENTS,
    ZEROS,
    SCRATCH,
    SCRATCH_BYTES,
) = range(FIRST, FIRST + len(ARGUMENTS))


def scratch_bytes(tiles: int, channels: int, filters: int) -> int:
    """What a thread needs for pieces of so many tiles."""
    numbers = PRODUCTS * tiles * (channels + filters) + filters + 3 * LANES
    return numbers * BYTES + (PRODUCTS + PIXELS) * tiles * 8


@inline
def read_addresses(
    to: int, picture: int, y: int, x: int, height: int, width: int, channels: int, beyond: int
) -> None:
    """Where the pixels of the tile at (y, x) and of its border are."""
    for i in range(IN):
        for j in range(IN):
            row, column = y + i - 1, x + j - 1
            where = beyond
            if 0 <= row < height and 0 <= column < width:
                where = picture + BYTES * channels * (row * width + column)
            put_long(to, i * IN + j, where)


@inline
def write_addresses(
    to: int, picture: int, y: int, x: int, height: int, width: int, channels: int, beyond: int
) -> None:
    """Where the pixels of the tile at (y, x) go."""
    for i in range(OUT):
        for j in range(OUT):
            where = beyond
            if y + i < height and x + j < width:
                where = picture + BYTES * channels * ((y + i) * width + x + j)
            put_long(to, i * OUT + j, where)


@task
def convolve(a: int) -> None:
    slot = take(a + 8)
    height, width = long_at(a, HEIGHT), long_at(a, WIDTH)
    channels, filters = long_at(a, CHANNELS), long_at(a, FILTERS)
    most, how, away, beyond = (
        long_at(a, TILES),
        long_at(a, HOW),
        long_at(a, AWAY),
        long_at(a, ZEROS),
    )
    down, across = (height + OUT - 1) // OUT, (width + OUT - 1) // OUT
    pieces = (down * across + most - 1) // most
    transformed = long_at(a, SCRATCH) + slot * long_at(a, SCRATCH_BYTES)
    products = transformed + BYTES * PRODUCTS * most * channels
    dump = products + BYTES * PRODUCTS * most * filters
    moments = dump + BYTES * filters
    places = moments + 3 * SIZE
    while True:
        part = take(a)
        if part >= pieces * long_at(a, IMAGES):
            return
        image, first = part // pieces, part % pieces * most
        picture = long_at(a, X) + BYTES * image * height * width * channels
        scale = long_at(a, SCALE) + BYTES * image * channels
        shift = long_at(a, SHIFT) + BYTES * image * channels
        more = long_at(a, MORE) + 3 * BYTES * image
        tiles = min(most, down * across - first)
        stride = BYTES * most * channels
        for i in range(tiles):
            y, x = (first + i) // across * OUT, (first + i) % across * OUT
            read_addresses(places, picture, y, x, height, width, channels, beyond)
            to = transformed + BYTES * i * channels
            for channel in range(0, BYTES * channels, SIZE):
                if how == PLAIN:
                    tile_in(places, channel, to + channel, stride)
                elif how == RECTIFIED:
                    tile_in_rectified(places, channel, to + channel, stride, beyond, scale, shift)
                else:
                    tile_in_gradient(
                        places,
                        channel,
                        to + channel,
                        stride,
                        beyond,
                        away,
                        scale,
                        shift,
                        more,
                    )
        for k in range(PRODUCTS):
            multiply(
                transformed + k * stride,
                long_at(a, WEIGHT) + BYTES * k * channels * filters,
                products + BYTES * k * most * filters,
                most,
                channels,
                filters,
                beyond,
            )
        picture = long_at(a, OUTPUT) + BYTES * image * height * width * filters
        stride = BYTES * most * filters
        put_float(moments + 2 * SIZE, 0.0)
        if long_at(a, MOMENTS):  # which are taken around the first number
            y, x = first // across * OUT, first % across * OUT
            write_addresses(places, picture, y, x, height, width, filters, dump)
            tile_out(products, stride, places, 0, dump, long_at(a, BIAS), moments)
            put_float(moments + 2 * SIZE, float_at(long_at(places, 0)))
        for i in range(2 * LANES):
            put_float(moments + BYTES * i, 0.0)
        pixels = 0
        for i in range(tiles):
            y, x = (first + i) // across * OUT, (first + i) % across * OUT
            write_addresses(places, picture, y, x, height, width, filters, dump)
            pixels += min(OUT, height - y) * min(OUT, width - x)
            of = products + BYTES * i * filters
            for channel in range(0, BYTES * filters, SIZE):
                if long_at(a, ADDED):
                    tile_out_added(of + channel, stride, places, channel, dump, long_at(a, ADDED))
                else:
                    tile_out(of + channel, stride, places, channel, dump, long_at(a, BIAS), moments)
        if long_at(a, MOMENTS):
            start, to = float_at(moments + 2 * SIZE), long_at(a, MOMENTS) + 3 * BYTES * part
            put_moments(moments, start, pixels * filters, to)


@task
def pack(a: int) -> None:
    """G g G^T of weights, [3, 3, CHANNELS, FILTERS], in the order that `multiply` takes them in."""
    channels, filters = long_at(a, CHANNELS), long_at(a, FILTERS)
    size = BYTES * channels * filters
    while True:
        channel = take(a)
        if channel >= channels:
            return
        for n in range(0, filters, LANES):
            block, lane = n // COLUMNS * COLUMNS, n % COLUMNS
            weights = long_at(a, X) + BYTES * (channel * filters + n)
            to = long_at(a, OUTPUT) + BYTES * (block * channels + channel * COLUMNS + lane)
            weights_in(weights, size, to, size)
