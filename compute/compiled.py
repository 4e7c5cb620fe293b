"""Whether there is compiled code, and how it is run on tensors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from torch import Tensor

Values = Mapping[str, Tensor | int | None]


@lru_cache(1)
def is_there() -> bool:
    """Whether there are numba and an OpenMP runtime of PyTorch's that takes work from us."""
    try:
        from .jit import convolution, linear, normalisation, pointwise, threads  # noqa: F401
    except Exception:  # of a broken installation numba's import raises nearly anything
        return False
    return threads.runtime() is not None


def up(number: int, to: int) -> int:
    """The next multiple."""
    return -(-number // to) * to


def share(task: int, names: list[str], values: Values, threads: int) -> None:
    """Runs a compiled task with arguments by name; a tensor is its address, what is missing 0."""
    from .jit import threads as pool

    found = (values.get(name) for name in names)
    numbers = [one.data_ptr() if isinstance(one, Tensor) else one or 0 for one in found]
    pool.share(task, numbers, threads)
