"""Seconds and memory of tasks that take turns, and tables of them.

This module imports no torch: `start` does so as the program does.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

from v_diffusion.shell.console import note, print_line
from v_diffusion.shell.program import SPINS

T = TypeVar("T")
STATUS = Path("/proc/self/status")
INTERVAL = 0.005  # seconds from one look at the memory to the next


class Taken(NamedTuple):
    """The seconds of a task, and the peak of anonymous memory in bytes, 0 if it is unknown."""

    seconds: float
    peak: int


def anonymous() -> int:
    """Return what this process has asked for, less the files mapped into it, in bytes."""
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


class Peak:
    """The highest `anonymous` since it was made."""

    def __init__(self) -> None:
        self.bytes = 0
        self.ended = threading.Event()
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self) -> None:
        while not self.ended.wait(INTERVAL):
            self.so_far()

    def so_far(self) -> int:
        self.bytes = max(self.bytes, anonymous())
        return self.bytes


def seconds(task: Callable[[], object], times: int = 1) -> float:
    """Return the mean seconds of a task, with what it leaves a GPU to do."""
    import torch

    begun = time.perf_counter()
    for _ in range(times):
        task()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return (time.perf_counter() - begun) / times


def taken(task: Callable[[], object]) -> Taken:
    """Return what a task in this process takes."""
    peak = Peak()
    spent = seconds(task)
    peak.ended.set()
    return Taken(spent, peak.so_far())


def run(command: Sequence[str], many: int = 1, status: int = 0, spins: str | None = None) -> Taken:
    """Return the seconds of so many runs of Python, begun together, each in a folder of its own.

    Raises:
        RuntimeError: one has another exit status.
    """
    with ExitStack() as stack:
        folders = [stack.enter_context(TemporaryDirectory()) for _ in range(many)]
        environment = os.environ if spins is None else {**os.environ, SPINS: spins}
        null = subprocess.DEVNULL
        how: Any = {"env": environment, "stdout": null, "stderr": null}
        begun = time.perf_counter()
        runs = [subprocess.Popen([sys.executable, *command], cwd=at, **how) for at in folders]
        if {one.wait() for one in runs} != {status}:
            raise RuntimeError(f"{' '.join(command)} failed")
        return Taken(time.perf_counter() - begun, 0)


def in_turn(tasks: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Return what each task gives in each round.

    All take their turn in a round, so that whatever else the machine does hits all of them alike.
    """
    found: dict[str, list[T]] = {name: [] for name in tasks}
    for i in range(rounds):
        for name, task in tasks.items():
            note(f"{name}, round {i + 1} of {rounds}")
            found[name].append(task())
    return found


def spread(values: Sequence[float]) -> str:
    """Return the median, and in brackets the least and the most."""
    low, middle, high = (f"{f(values):.3g}" for f in (min, median, max))
    return middle if low == high else f"{middle} ({low}-{high})"


def ratio(ones: Sequence[Taken], others: Sequence[Taken]) -> str:
    """Return how many times as long the ones take as the others of the same round."""
    return spread([one.seconds / other.seconds for one, other in zip(ones, others)])


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table."""
    lines = [head, ["---"] * len(head), *rows]
    print_line(
        "\n".join([f"## {title}", "", *(f"| {' | '.join(map(str, x))} |" for x in lines), ""])
    )


def show(title: str, found: Mapping[str, Mapping[str, Sequence[Taken]]]) -> None:
    """Print what each way of each task takes, beside the task's first way."""
    rows = []
    for task, ways in found.items():
        first = next(iter(ways.values()))
        for way, measured in ways.items():
            peak = max(one.peak for one in measured) / 1e9
            times = spread([one.seconds for one in measured])
            memory = f"{peak:.2f} GB" if peak else ""
            rows.append([task, way, f"{times} s", ratio(first, measured), memory])
    table(title, ["", "", "time", "first / this", "peak memory"], rows)
