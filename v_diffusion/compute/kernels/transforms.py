"""One tile and one vector of its channels into and out of Winograd's transforms, as compiled code.

A tile's pixels are given by their addresses, 64-bit integers in a row, so that a pixel beyond the
picture may be any memory: zeros to read from, or what nobody reads to write to.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from llvmlite.ir import IRBuilder as Builder

from .compiler import kernel
from .rectifier import rectified, unrectified
from .tiles import IN, OUT, TAPS, both_ways, into, of_weights, out_of
from .vectors import LONG, SIZE, Vector, load, load_long, spread, store


def pixels(
    builder: Builder, addresses: ir.Value, read: Callable[[ir.Value], Vector]
) -> list[list[Vector]]:
    """The pixels of a tile with its border, row by row."""
    return [[read(load_long(builder, addresses, i * IN + j)) for j in range(IN)] for i in range(IN)]


def put_products(
    builder: Builder, square: list[list[Vector]], to: ir.Value, stride: ir.Value
) -> None:
    """Writes the numbers of a transformed tile, each `stride` bytes behind the last."""
    for i, row in enumerate(both_ways(into, square)):
        for j, vector in enumerate(row):
            store(builder, vector, to, builder.mul(stride, LONG(i * IN + j)))


@kernel
def tile_in(
    builder: Builder, addresses: ir.Value, channel: ir.Value, to: ir.Value, stride: ir.Value
) -> None:
    """B^T d B of pixels as they are.

    Args:
        channel: in bytes.
        to: where the first of the 36 numbers goes, each `stride` bytes behind the last.
    """
    square = pixels(builder, addresses, lambda address: load(builder, address, channel))
    put_products(builder, square, to, stride)


@kernel
def tile_in_rectified(
    builder: Builder,
    addresses: ir.Value,
    channel: ir.Value,
    to: ir.Value,
    stride: ir.Value,
    beyond: ir.Value,
    scale: ir.Value,
    shift: ir.Value,
) -> None:
    """B^T d B of relu(scale pixel + shift); 0 of those at the address `beyond`.

    Args:
        scale, shift: addresses of each channel's.
    """
    rectify = rectified(builder, channel, scale, shift)

    def read(address: ir.Value) -> Vector:
        inside = builder.icmp_signed("!=", address, beyond)
        return rectify(load(builder, address, channel)).where(inside)

    put_products(builder, pixels(builder, addresses, read), to, stride)


@kernel
def tile_in_gradient(
    builder: Builder,
    addresses: ir.Value,
    channel: ir.Value,
    to: ir.Value,
    stride: ir.Value,
    beyond: ir.Value,
    away: ir.Value,
    scale: ir.Value,
    shift: ir.Value,
    more: ir.Value,
) -> None:
    """B^T d B of the pixels of `unrectified`; 0 of those at the address `beyond`.

    Args:
        away: how far behind a pixel of g that of h is.
        scale, shift, more: as `unrectified` has them.
    """
    coefficients = [scale, shift, more]
    back = unrectified(builder, channel, *coefficients)

    def read(address: ir.Value) -> Vector:
        inside = builder.icmp_signed("!=", address, beyond)
        of_h = builder.select(inside, builder.add(address, away), address)
        return back(load(builder, address, channel), load(builder, of_h, channel)).where(inside)

    put_products(builder, pixels(builder, addresses, read), to, stride)


def products_of(builder: Builder, products: ir.Value, stride: ir.Value) -> list[list[Vector]]:
    """The products of a tile, each `stride` bytes behind the last, as the square that they are."""
    return [
        [load(builder, products, builder.mul(stride, LONG(i * IN + j))) for j in range(IN)]
        for i in range(IN)
    ]


@kernel
def tile_out(
    builder: Builder,
    products: ir.Value,
    stride: ir.Value,
    addresses: ir.Value,
    channel: ir.Value,
    beyond: ir.Value,
    bias: ir.Value,
    moments: ir.Value,
) -> None:
    """A^T m A and a bias, to the pixels of a tile.

    Args:
        products: where the first of the 36 numbers is, each `stride` bytes behind the last.
        channel: in bytes.
        beyond: the address of those pixels that nobody reads.
        bias: the address of each channel's.
        moments: the address of two vectors, to which sums of what comes out and of its squares are
            added, and behind them of a number that is subtracted first.
    """
    added = load(builder, bias, channel)
    sums, squares = load(builder, moments), load(builder, moments, SIZE)
    start = spread(builder, moments, 2 * SIZE)
    square = products_of(builder, products, stride)
    for i, row in enumerate(both_ways(out_of, square)):
        for j, vector in enumerate(row):
            address = load_long(builder, addresses, i * OUT + j)
            out = vector + added
            store(builder, out, address, channel)
            seen = (out - start).where(builder.icmp_signed("!=", address, beyond))
            sums, squares = sums + seen, squares + seen * seen
    store(builder, sums, moments)
    store(builder, squares, moments, SIZE)


@kernel
def tile_out_added(
    builder: Builder,
    products: ir.Value,
    stride: ir.Value,
    addresses: ir.Value,
    channel: ir.Value,
    beyond: ir.Value,
    away: ir.Value,
) -> None:
    """A^T m A added to other pixels, to the pixels of a tile.

    Args:
        away: how far behind a pixel of what comes out the one to add is.
    """
    square = products_of(builder, products, stride)
    for i, row in enumerate(both_ways(out_of, square)):
        for j, vector in enumerate(row):
            address = load_long(builder, addresses, i * OUT + j)
            inside = builder.icmp_signed("!=", address, beyond)
            other = builder.select(inside, builder.add(address, away), address)
            store(builder, vector + load(builder, other, channel), address, channel)


@kernel
def weights_in(
    builder: Builder, weights: ir.Value, step: ir.Value, to: ir.Value, stride: ir.Value
) -> None:
    """G g G^T of weights.

    Args:
        weights: where the first of the 9 is, each `step` bytes behind the last.
        to: where the first of the 36 numbers goes, each `stride` bytes behind the last.
    """
    square = [
        [load(builder, weights, builder.mul(step, LONG(TAPS * i + j))) for j in range(TAPS)]
        for i in range(TAPS)
    ]
    for i, row in enumerate(both_ways(of_weights, square)):
        for j, vector in enumerate(row):
            store(builder, vector, to, builder.mul(stride, LONG(i * IN + j)))
