"""Products, Winograd's tiles and whole convolutions, compiled by numba for the processor at hand.

Numbers are in fp32, pictures in channels_last. Compiled code takes addresses, 64-bit integers.
"""

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn

TYPES = (Tensor, nn.Parameter)


@lru_cache(1)
def obstacle() -> str | None:
    """Return why the kernels can't be compiled or run in PyTorch's threads; None if they can."""
    try:
        from numba import config

        from . import threads
    except Exception as error:  # of a broken installation numba's import raises nearly anything
        return f"off, because numba can't be imported ({type(error).__name__}: {error})"
    if config.DISABLE_JIT:
        return "off, because NUMBA_DISABLE_JIT is set"
    if threads.runtime() is None:
        return "off, because PyTorch's OpenMP runtime was not found"
    return None


def round_up(number: int, to: int) -> int:
    """Return the next multiple."""
    return -(-number // to) * to


def address(x: Tensor, *shape: int) -> int:
    """Return where the numbers of a tensor of this shape lie; those of pictures in channels_last.
    Raise TypeError for anything else, which compiled code would read or write beyond.
    """
    order = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    sound = type(x) in TYPES and x.is_cpu and x.dtype is torch.float32 and x.shape == shape
    if not (sound and x.is_contiguous(memory_format=order)):
        raise TypeError(
            f"compiled code takes dense fp32 tensors {list(shape)} on a CPU, not {type(x).__name__}"
            f" {list(x.shape)} of {x.dtype} on {x.device}; use the plain module"
        )
    return x.data_ptr()


def addresses(x: Tensor, tensors: Mapping[str, Tensor | None]) -> dict[str, int]:
    """Return the addresses of pictures like x, and of what there is of each channel or image."""
    b, c, h, w = x.shape
    shapes = {"scale": (b, c), "shift": (b, c), "more": (b, 3)}
    return {
        name: address(one, *shapes.get(name, (b, c, h, w)))
        for name, one in tensors.items()
        if one is not None
    }
