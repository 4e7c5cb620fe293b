"""The share of this process where `torchrun` has started several.

A rank knows its number and how many there are from its environment, and needs no more: every rank
goes through the same batches in the same order and draws each whose number is its own. They never
talk to each other.
"""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from ..shell.errors import UserError

T = TypeVar("T")
LOOK = 0.2  # seconds between two looks at who is there


@dataclass(frozen=True)
class Rank:
    """One of several processes.

    Args:
        number: from 0, among all.
        of: how many there are on all machines together.
        local: its number among those of this machine.
    """

    number: int = 0
    of: int = 1
    local: int = 0

    @property
    def reports(self) -> bool:
        """Whether this is the one that says what concerns all."""
        return self.number == 0

    def share(self, batches: Iterable[T]) -> Iterator[T]:
        """Those that this rank draws."""
        return islice(batches, self.number, None, self.of)

    def count(self, orders: Sequence[int], size: int) -> int | None:
        """How many pictures are its share, None where that isn't known.

        Args:
            orders: how many there are of each order.
            size: of a batch, the last of which may be smaller.
        """
        if self.of == 1:
            return sum(orders)
        if len(orders) > 1:  # whose batches may be of each alone
            return None
        whole, rest = divmod(orders[0], size)
        own = len(range(self.number, whole, self.of))
        return own * size + rest * (whole % self.of == self.number)


def take_threads() -> None:
    """Gives this process as many threads as it would have alone. Before PyTorch is imported.

    `torchrun` gives each of several processes one thread where nobody has said how many. But sums
    are rounded as they are split among the threads: with another number of them the pictures would
    be others, by a grey level here and there. The threads of all don't wait for work in a loop
    then, so that they don't keep each other from it.
    """
    if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        if os.environ.get("OMP_NUM_THREADS") == "1":
            del os.environ["OMP_NUM_THREADS"]
        os.environ.setdefault("GOMP_SPINCOUNT", "0")


def this_rank() -> Rank:
    """The rank of this process, the only one where nobody has started several.

    Raises:
        UserError: the environment says what can't be.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not all(name in os.environ for name in names[:2]):
        return Rank()
    values = [os.environ.get(name, "0") for name in names]
    if not all(value.isdecimal() for value in values) or not int(values[0]) < int(values[1]):
        said = ", ".join(f"{name}={value}" for name, value in zip(names, values))
        raise UserError(f"no rank: the environment has {said}; start with torchrun, or unset them")
    return Rank(*map(int, values))


def wait_for_all(rank: Rank, failed: bool) -> bool:
    """Waits until all ranks have come here: the one time that they hear of each other.

    A rank that ended with a failure before the others are done would have `torchrun` end them. They
    meet in the launcher's own store; without a launcher nobody waits.

    Returns:
        Whether this one or another has failed.
    """
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT", "")
    if rank.of == 1 or not address or not port.isdecimal():
        return failed
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    hosts = rank.number == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    store = TCPStore(address, int(port), rank.of, is_master=hosts, wait_for_workers=False)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    meeting = PrefixStore(f"v-diffusion/{attempt}", store)
    meeting.add("failed", int(failed))
    meeting.add("here", 1)
    while meeting.add("here", 0) < rank.of:  # its own wait would not hear of Ctrl-C
        time.sleep(LOOK)
    others = meeting.add("failed", 0)
    meeting.add("seen", 1)
    while hosts and meeting.add("seen", 0) < rank.of:  # the store goes with its host
        time.sleep(LOOK)
    return bool(others > 0)
