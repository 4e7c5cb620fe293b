"""The memory that a batch takes, the memory that is free, and advice where it isn't enough."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from ..job.job import Job
from ..job.script import CLIP_SAMPLE
from ..shell.errors import RunError, UserError
from ..weights import store
from ..weights.download import human_size

MEMINFO, STATUS = Path("/proc/meminfo"), Path("/proc/self/status")
OWN_CGROUP, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# The files of a cgroup, version 2 and 1: its limit, what it uses, and the cache in that.
CGROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
FEW_CUTOUTS = 4  # seen at once with checkpointing
OWN_TENSORS = 6  # of a batch's own size that a sampler keeps, at least


def number(path: Path, name: str) -> int:
    """Return the number behind a name in one of the kernel's files, or raise ValueError."""
    found = re.search(rf"^{name}:?\s+(\d+)", path.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(name)
    return int(found[1])


def cgroups() -> Iterator[Path]:
    """Yield the folders of this process's cgroups and of all that these are nested in."""
    for line in OWN_CGROUP.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = CGROUPS / controllers
            folder = root / path.lstrip("/")
            yield from (one for one in (folder, *folder.parents) if one.is_relative_to(root))


def limits() -> Iterator[int]:
    """Yield the bytes that each limit leaves this process, as far as the system tells."""
    with suppress(OSError, ValueError):
        yield number(MEMINFO, "MemAvailable") * 1024
    with suppress(OSError, ValueError):
        for folder in cgroups():
            for limit, used, cache in CGROUP_FILES:
                with suppress(OSError, ValueError):  # "max" is not a number
                    most, now = (int((folder / name).read_text()) for name in (limit, used))
                    yield most - now + number(folder / "memory.stat", cache)
    with suppress(OSError, ValueError, ImportError):
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            yield most - number(STATUS, "VmSize") * 1024


def available(device: torch.device) -> int | None:
    """Return the bytes that are free for this process on a device, None where that is unknown."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        cached: int = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    if device.type != "cpu" or os.name != "posix":
        return None
    return min(limits(), default=None)


def needed(job: Job, n: int, checkpointing: bool = False, cfg_batch: int | None = None) -> int:
    """Return about the bytes that a batch of n pictures takes, rather too few, by the figures on
    the cards of the model and its CLIP.
    """
    cards = store.cards()
    card = cards[job.model]
    pixels = job.size[0] * job.size[1]
    scale = pixels / card.side**2
    own = n * 4 * 3 * pixels * OWN_TENSORS
    if job.clip_guidance_scale:
        picture = card.memory["picture" if checkpointing else "guided"]
        cutouts = min(job.cutn, FEW_CUTOUTS) if checkpointing else job.cutn
        return int(n * (picture * scale + cutouts * cards[job.clip].memory["cutout"])) + own
    rows = n
    if job.script != CLIP_SAMPLE.name:
        rows *= 1 + len(job.prompts) + len(job.images)
    return int(min(rows, cfg_batch or rows) * card.memory["picture"] * scale) + own


def check_batch(
    job: Job,
    n: int,
    device: torch.device,
    checkpointing: bool = False,
    cfg_batch: int | None = None,
    held: int = 0,
) -> int:
    """Return the bytes that a batch of n pictures needs.

    Args:
        held: bytes that this process has asked for already and doesn't use.

    Raises:
        UserError: they aren't free. The message says how many pictures fit.
    """
    need = needed(job, n, checkpointing, cfg_batch)
    smallest = n == 1 and max(job.size) <= store.cards()[job.model].side
    free = None if smallest or need <= held else available(device)
    if free is None or need <= free + held:
        return need
    text = f"needs about {human_size(need)} of memory, and {human_size(free)} are free"
    if n == 1:
        raise UserError(f"--size {job.size[0]} {job.size[1]}: {text}; use a smaller size")
    fits = max(1, int(n * (free + held) / need))
    raise UserError(f"--batch-size {n}: {text}; use {fits} or less")


@contextmanager
def advice(
    job: Job, n: int, device: torch.device, checkpointing: bool, cfg_batch: int | None
) -> Iterator[None]:
    """Turn running out of memory into a message that says what would help.

    Raises:
        RunError: there was not enough memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On a CPU torch raises a bare RuntimeError.
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not known and "can't allocate memory" not in str(error):
            raise
        remedies = {
            "a smaller --batch-size": n > 1,
            "--cfg-batch 1": job.script != CLIP_SAMPLE.name and cfg_batch != 1,
            "--checkpointing": job.clip_guidance_scale and not checkpointing,
            "--clip-guidance-scale 0": job.clip_guidance_scale,
            "--model emoji_64": job.model != "emoji_64",
        }
        helpful = ", ".join(remedy for remedy, helps in remedies.items() if helps)
        text = f"out of memory on {device}" + (f"; try {helpful}" if helpful else "")
        raise RunError(text) from None
