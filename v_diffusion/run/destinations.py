"""Destinations of a run's images before they are drawn: free, writable and locked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..images import output
from ..images.names import FORMATS, all_identities, bad_pattern, check_place, identities
from ..shell.console import printable
from ..shell.errors import RunError
from ..shell.writing import followed, stem_of
from .tasks import Task

MOST_FOLDERS = 4096  # that are remembered as prepared
MOST_LOCKS = 128  # at once: each is an open file, of which a process has few
PATIENCE = 0.5  # seconds for which another process may hold a lock to sweep it


def lock_of(path: Path) -> Path:
    """Return the lock file of an image, which is one file for all the image's names."""
    place = Path(os.path.realpath(path))
    return place.with_name(f".{stem_of(place.stem)}{place.suffix}.lock")


def discard(lock: FileLock) -> None:
    """Drop a lock and remove its file, unless another process holds it."""
    with suppress(OSError, Timeout), lock.acquire(timeout=0):
        os.unlink(lock.lock_file)  # while it is held, or the next holder's would be removed
    lock.release(force=True)


def sweep_locks(folder: Path) -> None:
    """Remove the lock files of images that killed processes have left in a folder."""
    for path in folder.glob(".*.lock"):
        if Path(path.stem).suffix.lower() in FORMATS:
            discard(FileLock(path))


class Locks:
    """Locks on the images that this process draws, so that no other draws them meanwhile.

    The system drops a lock when its process ends, however it ends.
    """

    def __init__(self) -> None:
        self._held: dict[Path, FileLock] = {}  # by lock file
        self.kept: set[Path] = set()  # those that stay locked to the end

    def take(self, path: Path, keep: bool = False) -> None:
        """Lock an image, whose folder exists, until all are released, or to the end.

        Raises:
            RunError: another process is drawing it.
        """
        file = lock_of(path)
        if keep:
            self.kept.add(file)
        if file in self._held:
            return
        lock = self._held[file] = FileLock(file)
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            del self._held[file]
            why = "another process is drawing it; wait for it to end, or give another --output"
            raise RunError(f"{printable(path)}: {why}") from None
        except OSError:  # the file system has no locks, or the folder is gone, which writing tells
            pass

    def release(self, everything: bool = False) -> None:
        """Unlock the images, perhaps those to keep as well, and remove their lock files."""
        for file in [file for file in self._held if everything or file not in self.kept]:
            discard(self._held[file])
            del self._held[file]  # afterwards: an interrupted release is done again


class Destinations:
    """The files that a run writes.

    Args:
        sources: files that no image may replace.
        grid: the path of the contact sheet, if there is to be one.
    """

    def __init__(self, sources: Sequence[Path], grid: Path | None) -> None:
        self._sources = all_identities(sources)
        self._grid: frozenset[object] = frozenset() if grid is None else identities(grid)
        self._prepared: set[Path] = set()  # folders
        self._locks = Locks()
        if grid is not None and self._grid & self._sources:
            why = "--again reads this image; give another name"
            raise bad_pattern(str(grid), why, "--grid")

    def conflict(self, task: Task) -> str | None:
        """Return why an image can't have its name, if another file of the run has it."""
        inputs = task.order.input_files
        if self._grid & inputs:
            return "the contact sheet would replace an input picture; give --grid another name"
        if not (self._sources or self._grid or inputs):
            return None
        where = identities(task.path)
        for others, what in (
            (self._sources, "an image that --again reads"),
            (inputs, "an input picture"),
            (self._grid, "the contact sheet's name"),
        ):
            if where & others:
                return f"{printable(task.path)} is {what}; give another name"
        return None

    def prepare(self, tasks: Sequence[Task]) -> None:
        """Make the folders of images and sweep them.

        Raises:
            UserError: a file can't be written.
        """
        for task in tasks:
            check_place(task.order.output, task.path)
        where = [followed(task.path) for task in tasks]
        output.prepare(path for path in where if path.parent not in self._prepared)
        for path in where:
            output.check_length(path)
        if len(self._prepared) > MOST_FOLDERS:
            self._prepared.clear()
        for folder in {path.parent for path in where} - self._prepared:
            sweep_locks(folder)
            self._prepared.add(folder)

    def lock(self, tasks: Sequence[Task], keep_first: bool) -> None:
        """Lock the files of images that are to be drawn now, `MOST_LOCKS` at most.

        Args:
            keep_first: keep the run's first image locked to its end, so that the same run started
                again ends at once.

        Raises:
            RunError: another process is drawing one.
        """
        keep_first = keep_first and not self._locks.kept
        for task in tasks[:MOST_LOCKS]:
            self._locks.take(task.path, keep=keep_first and task is tasks[0])

    def release(self) -> None:
        """Unlock the images that are drawn, or will not be."""
        self._locks.release()

    def close(self) -> None:
        """Unlock everything; the run is over."""
        self._locks.release(everything=True)
