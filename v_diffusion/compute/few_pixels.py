"""Convolutions of pictures with few pixels, with weights as they are, by compiled code.

Such weights are what takes time, and in the end most of a large network's memory. Read where they
lie, in a mapped file, they need neither packing nor a second place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import address, dots, round_up
from .kernels.vectors import LANES

MAX_PIXELS = 64  # beyond, each weight is used so often that to pack it pays
MIN_WEIGHTS = 2**20  # fewer stay in the cache, and are packed in no time
MOST_FILTERS = 64  # of a part


def is_faster(pixels: int, weight: Tensor) -> bool:
    """Return whether to go this way with weights [K, C, 1, 1] or [K, C, 3, 3]."""
    whole = weight.shape[1] % LANES == 0 and weight.shape[0] % dots.FILTERS == 0
    few = pixels <= MAX_PIXELS and weight.numel() >= MIN_WEIGHTS
    return few and whole and weight.is_contiguous()


def around(x: Tensor) -> Tensor:
    """Return the 3x3 pixels around each of pictures, as rows: [B H W, 9 C]."""
    b, c, h, w = x.shape
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    rows = x.new_empty(b, h, w, c, 9)
    for i in range(9):
        rows[..., i] = padded[:, i // 3 : i // 3 + h, i % 3 : i % 3 + w]
    return rows.view(b * h * w, 9 * c)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve pictures [B, C, H, W] in channels_last, whose sides stay as they are."""
    b, _, h, w = x.shape
    rows = x.permute(0, 2, 3, 1).flatten(0, 2) if weight.shape[2:] == (1, 1) else around(x)
    weight = weight.flatten(1)  # where they lie: `is_faster` knows that they are in order
    (count, inner), columns = rows.shape, len(weight)
    out = x.new_empty(count, columns)
    out = out.zero_() if bias is None else out.copy_(bias)
    threads = torch.get_num_threads()
    dump = x.new_empty(threads * LANES)
    chunk = min(MOST_FILTERS, round_up(-(-columns // threads), dots.FILTERS))
    factors = {"x": address(rows, count, inner), "weight": address(weight, columns, inner)}
    results = {"output": address(out, count, columns), "dump": address(dump, threads * LANES)}
    sizes = {"rows": count, "inner": inner, "columns": columns, "chunk": chunk}
    dots.dots(-(-columns // chunk), **factors, **results, **sizes)
    return out.view(b, h, w, -1).permute(0, 3, 1, 2)
