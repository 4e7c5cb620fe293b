"""The places of a run's files, before there is anything in them: free, prepared and claimed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..images import output
from ..images.names import all_identities, bad_pattern, check_place, identities
from ..shell.console import printable
from .claims import Claims
from .tasks import Task

MOST_FOLDERS = 4096  # of which it is remembered that they are prepared
MOST_CLAIMS = 1024  # at once: the kernel looks through all of them for each


class Destinations:
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

    def conflict(self, task: Task) -> str | None:
        """Why a picture can't have its name, if another file of the run has it."""
        inputs = task.order.input_files
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
