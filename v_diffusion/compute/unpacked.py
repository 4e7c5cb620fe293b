"""Convolutions of pictures with few pixels, with weights as they are, by compiled code.

Such weights are what takes time, and in the end most of a large network's memory. Read where they
lie, in a mapped file, they need neither packing nor a second place.
"""

from __future__ import annotations

from torch import Tensor

from .compiled import Values, is_there, share, up

MOST_PIXELS = 64  # beyond, each weight is used so often that to pack it pays
FEWEST_WEIGHTS = 2**20  # fewer stay in the cache, and are packed in no time
CHUNK = 64  # filters of a part, at most


def pays(pixels: int, weight: Tensor) -> bool:
    """Whether to take this way with weights [K, C, 1, 1] or [K, C, 3, 3] and so many pixels."""
    few = pixels <= MOST_PIXELS and weight.numel() >= FEWEST_WEIGHTS
    return few and can(weight)


def can(weight: Tensor) -> bool:
    """Whether weights can go this way at all."""
    if weight.shape[2:] not in ((1, 1), (3, 3)) or not is_there():
        return False
    from .kernels.dots import FILTERS
    from .kernels.vectors import LANES

    whole = weight.shape[1] % LANES == 0 and weight.shape[0] % FILTERS == 0
    return LANES > FILTERS > 1 and whole and weight.is_contiguous()


def around(x: Tensor) -> Tensor:
    """The 3x3 pixels around each of pictures in channels_last, as rows: [B H W, 9 C]."""
    from .kernels import dots, threads

    b, c, h, w = x.shape
    rows = x.new_empty(b * h * w, dots.TAPS * c)
    sizes = {"images": b, "height": h, "width": w, "channels": c}
    share(dots.around, dots.AROUND, {"x": x, "output": rows, **sizes}, threads.count())
    return rows


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of pictures [B, C, H, W] in channels_last whose sides stay as they are."""
    from .kernels import dots, threads, vectors

    b, _, h, w = x.shape
    alone = weight.shape[2:] == (1, 1)
    rows = x.permute(0, 2, 3, 1).reshape(b * h * w, -1) if alone else around(x)
    count, inner = rows.shape
    out = x.new_empty(count, len(weight))
    out = out.zero_() if bias is None else out.copy_(bias)
    many = threads.count()
    chunk = min(CHUNK, up(-(-len(weight) // many), dots.FILTERS))
    dump = x.new_empty(many * vectors.LANES)
    values: Values = {"x": rows, "weight": weight, "output": out, "dump": dump}
    sizes = {"rows": count, "inner": inner, "columns": len(weight), "chunk": chunk}
    share(dots.dots, dots.ARGUMENTS, {**values, **sizes}, many)
    return out.view(b, h, w, -1).permute(0, 3, 1, 2)
