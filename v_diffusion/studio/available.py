"""How much memory there is for more."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MEMINFO, STATUS = Path("/proc/meminfo"), Path("/proc/self/status")
CGROUP = Path("/sys/fs/cgroup")  # of version 2, or with the controller's folder in it of version 1


def number(path: Path, name: str) -> int:
    """The number behind a name in a file of the kernel's.

    Raises:
        OSError, ValueError: there is none.
    """
    found = re.search(rf"^{name}:?\s+(\d+)", path.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(name)
    return int(found[1])


def limits() -> Iterator[int]:
    """The bytes that each limit on this process leaves it, as far as the system tells."""
    with suppress(OSError, ValueError):
        yield number(MEMINFO, "MemAvailable") * 1024
    for folder, limit, used, cache in (
        (CGROUP, "memory.max", "memory.current", "inactive_file"),
        (
            CGROUP / "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ):
        with suppress(OSError, ValueError):  # "max" is no number
            most, now = (int((folder / name).read_text()) for name in (limit, used))
            yield most - now + number(folder / "memory.stat", cache)
    with suppress(OSError, ValueError, ImportError):
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            yield most - number(STATUS, "VmSize") * 1024


def available(device: torch.device) -> int | None:
    """The bytes that are free for this process on a device, None where that isn't told."""
    if device.type == "cuda":
        import torch

        free: int = torch.cuda.mem_get_info(device)[0]
        kept: int = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + kept
    if device.type != "cpu" or os.name != "posix":
        return None
    return min(limits(), default=None)
