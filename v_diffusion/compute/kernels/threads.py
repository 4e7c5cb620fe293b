"""Work shared out to PyTorch's own threads.

A second pool of threads beside PyTorch's would fight it for the processor: the threads of both spin
while they wait. Its OpenMP runtime takes work from us as it does from it, by `GOMP_parallel`, which
GCC's runtime has and Intel's and LLVM's have too.
"""

import ctypes
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

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


def share(task: int, parts: int, arguments: Sequence[int]) -> None:
    """Run a compiled task, given by its address, in as many threads as PyTorch has.

    It gets the address of 64-bit integers: that of two zeros to count parts and threads with, the
    number of parts, and its arguments.
    """
    parallel = runtime()
    assert parallel is not None
    numbers = np.array([0, parts, *arguments, 0, 0], np.int64)
    start = numbers.ctypes.data
    numbers[0] = start + 8 * (2 + len(arguments))
    parallel(task, start, torch.get_num_threads(), 0)
