"""Orders to single pictures, and those to batches."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..images.names import Names, path_of
from ..job.job import Job
from ..shell.program import RunError, UserError
from .request import BadLine, Order

AHEAD = 64  # as many batches of orders are read ahead to find company for a job


@dataclass(frozen=True)
class Task:
    """One picture.

    Args:
        order: the order that it is of.
        seed: its own.
        path: where it goes.
        index: its number in the run, from 0.
    """

    order: Order
    seed: int
    path: Path
    index: int

    @property
    def job(self) -> Job:
        """What decides this very picture."""
        return self.order.job.with_seed(self.seed)


def of_order(order: Order, first: int, names: Names) -> Iterator[Task]:
    """Yield the pictures of an order, numbered from `first`.

    Raises:
        UserError: its files can't have their names; raised before the first picture.
    """
    seed = order.job.seed
    names.add(order.output, n=order.n, first=first, seed=seed, prompt=order.label)
    for k in range(order.n):
        path = path_of(order.output, i=first + k, seed=seed + k, prompt=order.label)
        yield Task(order, seed + k, path, first + k)


def single(
    orders: Iterable[Order | BadLine | None],
    refuse: Callable[[str | None, UserError | RunError], None],
) -> Iterator[Task | None]:
    """The pictures of orders.

    A line that is none counts as one picture, so that the others keep their numbers when it is
    mended.

    Args:
        refuse: called with an order that can't be, by its line.
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
            try:
                yield from of_order(order, first, names)
            except UserError as error:
                refuse(order.line, error)
            first += order.n


def in_batches(tasks: Iterable[Task | None], size: int) -> Iterator[list[Task]]:
    """Pictures that can be drawn together, up to `size` of them, in the order of their firsts.

    Which are together depends on the tasks alone where none of them is None.

    Args:
        tasks: the pictures; a None says that no more come for now, so that none has to wait.
    """
    waiting: dict[tuple[object, ...], list[Task]] = {}
    for task in tasks:
        if task is None:
            yield from waiting.values()
            waiting.clear()
            continue
        key = task.order.batch_key
        batch = waiting.setdefault(key, [])
        batch.append(task)
        if len(batch) == size:
            yield waiting.pop(key)
        elif sum(map(len, waiting.values())) >= AHEAD * size:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def in_parts(batches: Iterable[Sequence[Task]], size: int) -> Iterator[list[Sequence[Task]]]:
    """Batches in rows of at least so many pictures, the last perhaps of fewer."""
    part: list[Sequence[Task]] = []
    for batch in batches:
        part.append(batch)
        if sum(map(len, part)) >= size:
            yield part
            part = []
    if part:
        yield part
