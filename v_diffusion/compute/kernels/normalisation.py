"""From sums over pictures to what each channel is scaled and shifted by, and back."""

from .compiler import compiled, float_at, inline, put_float
from .vectors import BYTES, LANES, SIZE

EPSILON = 1e-5  # that group_norm adds to the variance


@inline
def sum_of(vector: int) -> float:
    """Return the sum over the lanes of the vector at an address."""
    total = 0.0
    for lane in range(LANES):
        total += float_at(vector + BYTES * lane)
    return total


@inline
def put_moments(vectors: int, start: float, count: int, to: int) -> None:
    """Write the count of some numbers, their mean and the sum of their squares around it.

    Given are two vectors of sums: of the numbers less `start`, and of the squares of those. Sums
    around 0 would lose the digits of numbers far from there.
    """
    total = sum_of(vectors)
    put_float(to, 1.0 * count)
    put_float(to + BYTES, start + total / count)
    put_float(to + 2 * BYTES, sum_of(vectors + SIZE) - total * total / count)


@inline
def number(sums: int, part: int, which: int) -> float:
    """Return one of the three numbers of a part."""
    return float_at(sums + BYTES * (3 * part + which))


@compiled
def modulation(
    found: int, parts: int, images: int, channels: int, given: int, a: int, b: int, to: int
) -> None:
    """Write a and b, [images, channels], with a h + b = (1 + scale) normalised h + shift.

    Args:
        found: of each part of the images, the moments of h as `put_moments` writes them.
        given: [images, 2, channels], scale and shift.
        to: [images, 2], where the mean of h and 1 over its standard deviation go.
    """
    for image in range(images):
        count, total, squares = 0.0, 0.0, 0.0
        for part in range(image * parts, (image + 1) * parts):
            count += number(found, part, 0)
            total += number(found, part, 0) * number(found, part, 1)
        mean = total / count
        for part in range(image * parts, (image + 1) * parts):
            away = number(found, part, 1) - mean
            squares += number(found, part, 2) + number(found, part, 0) * away * away
        over = 1 / (squares / count + EPSILON) ** 0.5
        row = given + 2 * BYTES * channels * image
        for channel in range(channels):
            at, scale = BYTES * (image * channels + channel), row + BYTES * channel
            factor = (1 + float_at(scale)) * over
            put_float(a + at, factor)
            put_float(b + at, float_at(scale + BYTES * channels) - mean * factor)
        put_float(to + 2 * BYTES * image, mean)
        put_float(to + 2 * BYTES * image + BYTES, over)


@compiled
def normalisation_gradient(
    sums: int, parts: int, images: int, count: int, moments: int, more: int
) -> None:
    """Write the gradient that h has through its mean and its standard deviation.

    Args:
        sums: of each part of the images, of the gradient past these, d, and of d (h - mean).
        moments: what `modulation` has put there.
        more: [images, 3], for the result: a number to add, and another for each unit of h.
    """
    for image in range(images):
        mean = float_at(moments + 2 * BYTES * image)
        over = float_at(moments + 2 * BYTES * image + BYTES)
        first, second = 0.0, 0.0
        for part in range(image * parts, (image + 1) * parts):
            first += number(sums, part, 0)
            second += number(sums, part, 1)
        slope = -over * over * second / count
        put_float(more + 3 * BYTES * image, -first / count - mean * slope)
        put_float(more + 3 * BYTES * image + BYTES, slope)
