"""The share of this process where `torchrun` has started several.

A rank needs to know only its number and the number of ranks, from its environment: all ranks go
through the same batches in the same order, and each draws its own. They meet only at the end.
"""

import os
import time
from dataclasses import dataclass

from ..shell.errors import UserError

LOOK = 0.2  # seconds between two looks at the others


@dataclass(frozen=True)
class Rank:
    """One of several processes: its number from 0, of how many, and its number on this machine."""

    number: int = 0
    of: int = 1
    local: int = 0

    @property
    def reports(self) -> bool:
        """Tell if this rank reports what concerns all."""
        return self.number == 0


def take_threads() -> None:
    """Take as many threads as alone, before torch is imported: others round differently."""
    several = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1
    if several and os.environ.get("OMP_NUM_THREADS") == "1":
        del os.environ["OMP_NUM_THREADS"]


def this_rank() -> Rank:
    """Return the rank of this process: the only one, unless a launcher has started several."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not all(name in os.environ for name in names[:2]):
        return Rank()
    values = [os.environ.get(name, "0") for name in names]
    if not all(value.isdecimal() for value in values) or not int(values[0]) < int(values[1]):
        said = ", ".join(f"{name}={value}" for name, value in zip(names, values))
        why = "which is no rank; use torchrun, or unset these"
        raise UserError(f"the environment has {said}, {why}")
    return Rank(*map(int, values))


def wait_for_all(rank: Rank, failed: bool) -> bool:
    """Wait in `torchrun`'s store until all ranks are done, and tell if this one or another has
    failed: `torchrun` would end all ranks when one ends with a failure.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return failed
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, rank.of, is_master=False, wait_for_workers=False)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    meeting = PrefixStore(f"v-diffusion/{attempt}", store)
    meeting.add("failed", int(failed))
    meeting.add("here", 1)
    while meeting.add("here", 0) < rank.of:  # the store's own wait would ignore Ctrl-C
        time.sleep(LOOK)
    return bool(meeting.add("failed", 0) > 0)
