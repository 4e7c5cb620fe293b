"""Orders taken apart into single pictures, and those put together to batches."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..images.names import FILM, Names, label, path_of
from ..job.job import Job
from ..shell.errors import RunError, UserError
from .request import BadLine, Order

AHEAD = 64  # batches of orders that are read ahead to fill up one batch


@dataclass(frozen=True)
class Task:
    """One picture of an order: its own seed, its file, its number in the run from 0, its film."""

    order: Order
    seed: int
    path: Path
    index: int
    film: Path | None = None

    @property
    def files(self) -> list[Path]:
        """The files to write."""
        return [self.path] if self.film is None else [self.path, self.film]

    @property
    def job(self) -> Job:
        """What decides this very picture."""
        return self.order.job.with_seed(self.seed)


def tasks_of(
    orders: Iterable[Order | BadLine | None],
    refuse: Callable[[str | None, UserError | RunError], None],
) -> Iterator[Task | None]:
    """Yield the pictures of orders, and refuse the line of an order that can't be, which counts as
    one picture, so that the others keep their numbers when it is mended.
    """
    names = Names()
    first = 0
    for order in orders:
        if order is None:
            yield None
        elif isinstance(order, BadLine):
            refuse(order.line, order.error)
            first += 1
        else:
            seed, prompt = order.job.seed, label(order.job)
            patterns = {"--output": order.output}
            if order.film is not None:
                patterns["--film"] = order.film or order.output + FILM
            try:
                for option, pattern in patterns.items():
                    names.add(pattern, option, n=order.n, first=first, seed=seed, prompt=prompt)
            except UserError as error:
                refuse(order.line, error)
            else:
                for k in range(order.n):
                    path, *films = (
                        path_of(pattern, option, i=first + k, seed=seed + k, prompt=prompt)
                        for option, pattern in patterns.items()
                    )
                    yield Task(order, seed + k, path, first + k, *films)
            first += order.n


def in_batches(tasks: Iterable[Task | None], size: int) -> Iterator[list[Task]]:
    """Yield batches of up to `size` pictures that can be drawn together, ordered by their firsts. A
    None among these means that no more come for now, so that none has to wait.
    """
    waiting: dict[tuple[object, ...], list[Task]] = {}
    for task in tasks:
        if task is None:
            yield from waiting.values()
            waiting.clear()
            continue
        key = task.order.job.batch_key
        batch = waiting.setdefault(key, [])
        batch.append(task)
        if len(batch) == size:
            yield waiting.pop(key)
        elif sum(map(len, waiting.values())) >= AHEAD * size:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()
