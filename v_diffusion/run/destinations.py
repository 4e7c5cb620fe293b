"""The places of a run's files, before there is anything in them: free, prepared and claimed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..images import output
from ..images.label import label_for
from ..images.names import all_identities, bad_pattern, check_place, identities
from ..images.series import Taken
from ..shell.console import printable
from ..studio.files import check_files
from .claims import Claims
from .request import Order
from .tasks import Task

MOST_FOLDERS = 4096  # of which it is remembered that they are prepared
MOST_CLAIMS = 1024  # at once: the kernel looks through all of them for each


def check_names(orders: Iterable[Order]) -> None:
    """Raises UserError where two of all pictures would have one name."""
    taken, first = Taken(), 0
    for order in orders:
        label = label_for(order.output, order.job)
        taken.places(order.output, order.n, order.job.seed, first, label)
        first += order.n


def check_inputs(orders: Iterable[Order]) -> None:
    """Opens the pictures that orders are given, and looks for the files of weights that they name.

    Raises:
        UserError: one is not there, or is none.
        RunError: one can't be fetched.
    """
    for order in orders:
        check_files(order.job)
        _ = order.subject  # opens them


class Places:
    """Where the files of a run go.

    Args:
        sources: files that no image may be written over.
        grid: the contact sheet's, if there is to be one.
    """

    def __init__(self, sources: Sequence[Path], grid: Path | None) -> None:
        self._sources = all_identities(sources)
        self._grid: frozenset[object] = frozenset() if grid is None else identities(grid)
        self._prepared: set[Path] = set()  # folders
        self._claims = Claims()
        if grid is not None and self._grid & self._sources:
            why = "--again takes an image from there; give another name"
            raise bad_pattern(str(grid), why, "--grid")

    def why_not(self, task: Task) -> str | None:
        """Why a picture can't have its name, if another file of the run has it."""
        inputs = task.order.inputs
        if self._grid & inputs:
            return "the contact sheet would be written over a picture to use; give another name"
        if not (self._sources or self._grid or inputs):
            return None
        where = identities(task.path)
        for others, what in (
            (self._sources, "what --again draws again"),
            (inputs, "a picture to use"),
            (self._grid, "the contact sheet's name"),
        ):
            if where & others:
                return f"{printable(task.path)} is {what}; give another name"
        return None

    def prepare(self, tasks: Sequence[Task]) -> None:
        """Makes the folders of pictures and claims their files.

        Raises:
            UserError: one can't be written.
            RunError: another process is drawing one.
        """
        for task in tasks:
            check_place(task.order.output, task.path)
        where = [output.followed(task.path) for task in tasks]
        output.prepare(path for path in where if path.parent not in self._prepared)
        for path in where:
            output.check_length(path)
        if len(self._prepared) > MOST_FOLDERS:
            self._prepared.clear()
        self._prepared |= {path.parent for path in where}
        self._claims.take(task.path for task in tasks[:MOST_CLAIMS])

    def keep(self, path: Path) -> None:
        """Claims a file, whose folder is there, to the end.

        Raises:
            RunError: another process is drawing it.
        """
        self._claims.take([path], keep=True)

    def release(self) -> None:
        """What was prepared so far is drawn, or will not be."""
        self._claims.release()

    def close(self) -> None:
        """The run is over."""
        self._claims.close()
