"""What is done to each pixel of pictures by itself, and sums over pictures: what each thread does.

A part is some pixels of one image, the same for any number of threads, so that sums are rounded the
same.
"""

from .compiler import float_at, kernel, put_float, task
from .moments import put_moments, sum_of
from .vectors import BYTES, SIZE, Long, Vector, rectified, unrectified

PIXELS = 256  # of a part, at most
# What is done.
RECTIFY, RECTIFY_AND_ADD, MEASURE, SUM_GRADIENT, UNRECTIFY = range(5)


@kernel
def rectify(h: Long, out: Long, scale: Long, shift: Long) -> None:
    out.store(rectified(scale, shift)(h.load()))


@kernel
def rectify_and_add(h: Long, other: Long, out: Long, scale: Long, shift: Long) -> None:
    out.store(rectified(scale, shift)(h.load()) + other.load())


@kernel
def unrectify(g: Long, h: Long, out: Long, scale: Long, shift: Long, more: Long) -> None:
    out.store(unrectified(scale, shift, more)(g.load(), h.load()))


def add_to(sums: Long, first: Vector, second: Vector) -> None:
    """Add to the two vectors at an address."""
    for place, vector in ((sums, first), (sums + SIZE, second)):
        place.store(place.load() + vector)


@kernel
def measure(h: Long, first: Long, sums: Long) -> None:
    """Add h, less the number at the address `first`, and the square of that."""
    seen = h.load() - first.spread()
    add_to(sums, seen, seen * seen)


@kernel
def sum_gradient(g: Long, h: Long, sums: Long, scale: Long, shift: Long, more: Long) -> None:
    """Add the gradient to h, and that times h less its mean."""
    seen = h.load()
    found = unrectified(scale, shift, more)(g.load(), seen)
    add_to(sums, found, found * (seen - (more + 2 * BYTES).spread()))


@task
def each_pixel(
    thread: int,
    part: int,
    how: int,
    x: int,
    other: int,
    output: int,
    area: int,
    channels: int,
    scale: int,
    shift: int,
    more: int,
    sums: int,
    found: int,
) -> None:
    """Do one of the above to pictures x. A part has two vectors of `sums`, 3 numbers of `found`."""
    parts = (area + PIXELS - 1) // PIXELS
    row = BYTES * channels
    image, first = part // parts, part % parts * PIXELS
    start = (image * area + first) * row
    pixels = min(PIXELS, area - first)
    a, b, c = scale + image * row, shift + image * row, more + 3 * BYTES * image
    vectors = sums + 2 * SIZE * part
    for i in range(pixels):
        for n in range(0, row, SIZE):
            at = start + i * row + n
            if how == RECTIFY:
                rectify(x + at, output + at, a + n, b + n)
            elif how == RECTIFY_AND_ADD:
                rectify_and_add(x + at, other + at, output + at, a + n, b + n)
            elif how == MEASURE:
                measure(x + at, x + start, vectors)
            elif how == SUM_GRADIENT:
                sum_gradient(x + at, other + at, vectors, a + n, b + n, c)
            else:
                unrectify(x + at, other + at, output + at, a + n, b + n, c)
    to = found + 3 * BYTES * part
    if how == MEASURE:
        put_moments(vectors, float_at(x + start), pixels * channels, to)
    elif how == SUM_GRADIENT:
        put_float(to, sum_of(vectors))
        put_float(to + BYTES, sum_of(vectors + SIZE))
