"""From sums over pictures to what each channel is scaled and shifted by, and back."""

from __future__ import annotations

from .compiler import compiled, inline
from .primitives import float_at, put_float
from .vectors import BYTES

EPSILON = 1e-5  # that group_norm adds to the variance


@inline
def total(sums: int, parts: int, image: int, which: int) -> float:
    """One of the two sums over an image, from those of its parts."""
    found = 0.0
    for part in range(image * parts, (image + 1) * parts):
        found += float_at(sums + BYTES * (2 * part + which))
    return found


@compiled(11)
def modulation(
    sums: int,
    parts: int,
    images: int,
    area: int,
    channels: int,
    scale: int,
    shift: int,
    row: int,
    a: int,
    b: int,
    moments: int,
) -> None:
    """a and b with a h + b = (1 + scale) normalised h + shift.

    Args:
        sums: of h and of its squares, of each of an image's parts.
        area: the pixels of an image.
        scale, shift: of each channel, images `row` bytes apart.
        a, b: [images, channels].
        moments: [images, 2], where the mean and 1 over the standard deviation go.
    """
    count = area * channels
    for image in range(images):
        mean = total(sums, parts, image, 0) / count
        variance = max(total(sums, parts, image, 1) / count - mean * mean, 0.0)
        over = 1 / (variance + EPSILON) ** 0.5
        for channel in range(channels):
            at, to = row * image + BYTES * channel, BYTES * (image * channels + channel)
            factor = (1 + float_at(scale + at)) * over
            put_float(a + to, factor)
            put_float(b + to, float_at(shift + at) - mean * factor)
        put_float(moments + 2 * BYTES * image, mean)
        put_float(moments + 2 * BYTES * image + BYTES, over)


@compiled(6)
def normalisation_gradient(
    sums: int, parts: int, images: int, count: int, moments: int, more: int
) -> None:
    """What the gradient to h has through its mean and its standard deviation.

    Args:
        sums: of the gradient past these, d, and of d h, of each of an image's parts.
        count: the numbers of an image.
        moments: what `modulation` has put there.
        more: [images, 2], where that goes: a number to add, and another for each unit of h.
    """
    for image in range(images):
        mean = float_at(moments + 2 * BYTES * image)
        over = float_at(moments + 2 * BYTES * image + BYTES)
        first, second = total(sums, parts, image, 0), total(sums, parts, image, 1)
        slope = -over * over * (second - mean * first) / count
        put_float(more + 2 * BYTES * image, -first / count - mean * slope)
        put_float(more + 2 * BYTES * image + BYTES, slope)
