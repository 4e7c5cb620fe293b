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
        from .kernels import threads  # noqa: F401
    except Exception:  # of a broken installation numba's import raises nearly anything
        return False
    return threads.runtime() is not None


def up(number: int, to: int) -> int:
    """The next multiple."""
    return -(-number // to) * to


def numbered(names: list[str], values: Values) -> list[int]:
    """A task's arguments by name as it takes them, in order and behind two zeros, with which its
    threads count. A tensor is its address, what is missing 0.
    """
    found = (values.get(name) for name in names)
    return [0, 0, *(one.data_ptr() if isinstance(one, Tensor) else one or 0 for one in found)]


def share(task: int, names: list[str], values: Values, threads: int) -> None:
    """Runs a compiled task with arguments by name."""
    from .kernels import threads as pool

    pool.share(task, numbered(names, values), threads)
