"""Work shared out to PyTorch's own threads.

A second pool of threads beside PyTorch's would fight it for the processor: the threads of both spin
while they wait. Its OpenMP runtime takes work from us as it does from it, by `GOMP_parallel`, which
GCC's runtime has and Intel's and LLVM's have too.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

FIRST = 2  # the place of a task's first argument, behind what its threads count with
RUNTIME = re.compile(r"lib(gomp|iomp5|omp)\b[^/]*\.so[^/]*$")


@lru_cache(1)
def runtime() -> Callable[..., Any] | None:
    """Return `GOMP_parallel` of PyTorch's OpenMP runtime, None where there is no such."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    paths = {line.split(maxsplit=5)[5] for line in lines if RUNTIME.search(line)}
    if len(paths) > 1:  # PyTorch's own lies in its folder, or in torch.libs beside that
        own = str(Path(torch.__file__).resolve().parent)
        paths = {path for path in paths if path.startswith(own)}
    if len(paths) != 1:
        return None
    try:
        found = ctypes.CDLL(paths.pop()).GOMP_parallel
    except (OSError, AttributeError):
        return None
    found.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    found.restype = None
    return found


def share(task: int, numbers: Sequence[int], threads: int) -> None:
    """Run a compiled task in so many threads at once.

    Args:
        task: its address. It is given that of an array of the numbers as 64-bit integers.
        numbers: two zeros, with which the threads count their parts and themselves, and then the
            task's arguments.
    """
    parallel = runtime()
    assert parallel is not None
    arguments = np.array(numbers, np.int64)
    parallel(task, arguments.ctypes.data, threads, 0)


def count() -> int:
    return torch.get_num_threads()
