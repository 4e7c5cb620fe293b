"""Convolutions of pictures with few pixels, with weights as they are, by compiled code.

Such weights are what takes time, and in the end most of a large network's memory. Read where they
lie, in a mapped file, they need neither packing nor a second place.
"""

from __future__ import annotations

from torch import Tensor

from . import kernels
from .kernels import address, round_up

MAX_PIXELS = 64  # beyond, each weight is used so often that to pack it pays
MIN_WEIGHTS = 2**20  # fewer stay in the cache, and are packed in no time
MOST_FILTERS = 64  # of a part


def is_faster(pixels: int, weight: Tensor) -> bool:
    """Return whether to go this way with weights [K, C, 1, 1] or [K, C, 3, 3]."""
    few = pixels <= MAX_PIXELS and weight.numel() >= MIN_WEIGHTS
    return few and supports(weight)


def supports(weight: Tensor) -> bool:
    """Return whether weights can go this way at all."""
    if weight.shape[2:] not in ((1, 1), (3, 3)) or not kernels.available():
        return False
    from .kernels.dots import FILTERS
    from .kernels.vectors import LANES

    whole = weight.shape[1] % LANES == 0 and weight.shape[0] % FILTERS == 0
    return LANES > FILTERS > 1 and whole and weight.is_contiguous()


def around(x: Tensor) -> Tensor:
    """Return the 3x3 pixels around each of pictures in channels_last, as rows: [B H W, 9 C]."""
    from .kernels import dots

    b, c, h, w = x.shape
    rows = x.new_empty(b * h * w, dots.TAPS * c)
    places = {"x": address(x, b, c, h, w), "output": address(rows, b * h * w, dots.TAPS * c)}
    sizes = {"images": b, "height": h, "width": w, "channels": c}
    kernels.share(dots.around, dots.AROUND, {**places, **sizes})
    return rows


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve pictures [B, C, H, W] in channels_last, whose sides stay as they are."""
    from .kernels import dots, threads, vectors

    b, _, h, w = x.shape
    rows = x.permute(0, 2, 3, 1).flatten(0, 2) if weight.shape[2:] == (1, 1) else around(x)
    weight = weight.flatten(1)  # where they lie: `supports` knows that they are in order
    (count, inner), columns = rows.shape, len(weight)
    out = x.new_empty(count, columns)
    out = out.zero_() if bias is None else out.copy_(bias)
    many = threads.count()
    dump = x.new_empty(many * vectors.LANES)
    values = {
        "x": address(rows, count, inner),
        "weight": address(weight, columns, inner),
        "output": address(out, count, columns),
        "dump": address(dump, many * vectors.LANES),
        "rows": count,
        "inner": inner,
        "columns": columns,
        "chunk": min(MOST_FILTERS, round_up(-(-columns // many), dots.FILTERS)),
    }
    kernels.share(dots.dots, dots.ARGUMENTS, values)
    return out.view(b, h, w, -1).permute(0, 3, 1, 2)
