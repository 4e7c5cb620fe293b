"""Products, Winograd's tiles and whole convolutions, compiled by numba for the processor at hand.

Numbers are in fp32, pictures in channels_last. Compiled code takes addresses, 64-bit integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

TYPES = (Tensor, nn.Parameter)
Backward = TypeVar("Backward", bound=Callable[..., Any])


@lru_cache(1)
def available() -> bool:
    """Return whether numba compiles here, and PyTorch's OpenMP runtime takes work from us."""
    try:
        from numba import config

        from . import threads
    except Exception:  # of a broken installation numba's import raises nearly anything
        return False
    return not config.DISABLE_JIT and threads.runtime() is not None


def round_up(number: int, to: int) -> int:
    """Return the next multiple."""
    return -(-number // to) * to


def once(backward: Backward) -> Backward:
    """Make a Function's backward refuse to be differentiated again.

    PyTorch's `once_differentiable` does so only where all gradients are asked for; those to some
    inputs would lack what goes through here.
    """

    def first(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():  # that is create_graph
            raise RuntimeError("a twin gives first derivatives alone; use the plain module")
        return backward(ctx, *grads)

    return first  # type: ignore[return-value]


def address(x: Tensor, *shape: int) -> int:
    """Return where the numbers of a tensor of this shape lie; those of pictures in channels_last.

    Raises:
        TypeError: it is something else, which compiled code would read or write beyond.
    """
    order = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    sound = type(x) in TYPES and x.is_cpu and x.dtype is torch.float32 and x.shape == shape
    if not (sound and x.is_contiguous(memory_format=order)):
        raise TypeError(
            f"compiled code takes dense fp32 tensors {list(shape)} on a CPU, not {type(x).__name__}"
            f" {list(x.shape)} of {x.dtype} on {x.device}; use the plain module"
        )
    return x.data_ptr()


def numbers_of(names: list[str], values: Mapping[str, int]) -> list[int]:
    """Order a task's arguments behind two zeros, with which its threads count; 0 where missing."""
    return [0, 0, *(values.get(name, 0) for name in names)]


def share(task: int, names: list[str], values: Mapping[str, int]) -> None:
    """Run a compiled task, given its arguments by name, in PyTorch's threads."""
    from . import threads

    threads.share(task, numbers_of(names, values), threads.count())
