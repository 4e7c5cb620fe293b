"""The memory of a process that computes on a CPU."""

import ctypes
from contextlib import suppress

# malloc.h of glibc
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Make glibc keep what is freed for the next tensor; from then on, for the whole process.

    It would give each large tensor's memory back at once, and the kernel fault in and clear every
    page of the next: a third of the time of a guided step of CC12M_1. What is kept is lost to other
    programs, and where sizes differ it doesn't all fit again: the peak grows by about a tenth.
    Other C libraries have no such thing.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
