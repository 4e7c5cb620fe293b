"""The memory that a batch takes, the memory that is free, and advice where it isn't enough."""

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

MEMINFO = Path("/proc/meminfo")
OWN_CGROUP, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
FEW_CUTOUTS = 4  # seen at once with checkpointing
OWN_TENSORS = 6  # of a batch's own size that a sampler keeps, at least


def number(path: Path, name: str) -> int:
    """Return the number behind a name in one of the kernel's files, or raise ValueError."""
    found = re.search(rf"^{name}:?\s+(\d+)", path.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(name)
    return int(found[1])


def limits() -> Iterator[int]:
    """Yield the bytes that the system leaves this process, and each cgroup that it is nested in."""
    with suppress(OSError, ValueError):
        yield number(MEMINFO, "MemAvailable") * 1024
    with suppress(OSError):
        folder = CGROUPS / OWN_CGROUP.read_text().partition("0::/")[2].strip()
        for one in (folder, *folder.parents):
            with suppress(OSError, ValueError):  # "max" is not a number
                most = int((one / "memory.max").read_text())
                used = int((one / "memory.current").read_text())
                yield most - used + number(one / "memory.stat", "inactive_file")


def available(device: torch.device) -> int | None:
    """Return the bytes that are free for this process on a device, None where that is unknown."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(limits(), default=None) if device.type == "cpu" else None


def needed(job: Job, n: int, checkpointing: bool = False, cfg_batch: int | None = None) -> int:
    """Return about the bytes that a batch of n pictures takes, rather too few, from the cards."""
    cards = store.cards()
    card = cards[job.model]
    pixels = job.size[0] * job.size[1]
    scale = pixels / card.side**2
    own = n * 4 * 3 * pixels * OWN_TENSORS
    if job.clip_guidance_scale:
        picture = card.memory["picture" if checkpointing else "guided"]
        cutouts = min(job.cutn, FEW_CUTOUTS) if checkpointing else job.cutn
        largest = max(cards[one.text].memory["cutout"] for one in job.clip)
        return int(n * (picture * scale + cutouts * largest)) + own
    rows = n
    if job.script != CLIP_SAMPLE.name:
        rows *= 1 + len(job.prompts) + len(job.images)
    return int(min(rows, cfg_batch or rows) * card.memory["picture"] * scale) + own


def check_batch(job: Job, n: int, need: int, device: torch.device, held: int = 0) -> None:
    """Raise UserError if `need` bytes for n pictures are more than is free or already held."""
    free = available(device)
    smallest = n == 1 and max(job.size) <= store.cards()[job.model].side
    if smallest or free is None or need <= free + held:
        return
    text = f"needs about {human_size(need)} of memory, and {human_size(free)} are free"
    if n == 1:
        raise UserError(f"--size {job.size[0]} {job.size[1]}: {text}; use a smaller size")
    fits = max(1, int(n * (free + held) / need))
    raise UserError(f"--batch-size {n}: {text}; use at most {fits}")


@contextmanager
def advice(job: Job, n: int, device: torch.device, checkpointing: bool) -> Iterator[None]:
    """Turn running out of memory into a RunError that says what would help."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On a CPU torch raises a bare RuntimeError.
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not known and "can't allocate memory" not in str(error):
            raise
        remedies = {
            "a smaller --batch-size": n > 1,
            "--cfg-batch 1": job.script != CLIP_SAMPLE.name,
            "--checkpointing": job.clip_guidance_scale and not checkpointing,
            "--clip-guidance-scale 0": job.clip_guidance_scale,
            "a smaller --size": True,
        }
        helpful = ", ".join(remedy for remedy, helps in remedies.items() if helps)
        raise RunError(f"out of memory on {device}; try {helpful}") from None
