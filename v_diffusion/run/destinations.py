"""Destinations of a run's images before they are drawn: free, writable and locked."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..images import output
from ..images.names import FORMATS, all_identities, check_place, identities
from ..shell.console import printable
from ..shell.errors import RunError
from ..shell.writing import followed, stem_of
from .tasks import Task

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


class Destinations:
    """The files that a run writes, locked while it draws them so that no other process does.

    The system drops a lock when its process ends. No image may replace the sources or the grid.
    """

    def __init__(self, sources: Sequence[Path], grid: Path | None) -> None:
        self._sources = all_identities(sources)
        self._grid = all_identities([] if grid is None else [grid])
        self._prepared: set[Path] = set()  # folders
        self._locks: dict[Path, FileLock] = {}  # by lock file
        self._kept: Path | None = None  # the lock file that stays to the end

    def conflict(self, task: Task) -> str | None:
        """Return why an image can't have its name, if another file of the run has it."""
        inputs = self._sources | task.order.input_files
        if self._grid & inputs:
            return "the contact sheet would replace an input picture; give --grid another name"
        for path in task.files:
            where = identities(path)
            for others, what in ((inputs, "an input picture"), (self._grid, "the contact sheet")):
                if where & others:
                    return f"{printable(path)} is {what}; give another name"
        return None

    def prepare(self, tasks: Sequence[Task]) -> None:
        """Make the folders of images, or raise a UserError if a file can't be written."""
        folders = {followed(path).parent: path for task in tasks for path in task.files}
        new = folders.keys() - self._prepared
        output.prepare(folders[folder] for folder in new)
        for task in tasks:
            for path in task.files:
                check_place(path)
        for folder in new:
            sweep_locks(folder)
        self._prepared |= new

    def lock(self, tasks: Sequence[Task], keep_first: bool) -> None:
        """Lock the files of images that are to be drawn now, `MOST_LOCKS` at most.

        With `keep_first` the run's first image stays locked, so that the same run started again
        ends at once: with RunError, as for any image that another process is drawing.
        """
        for task in tasks[:MOST_LOCKS]:
            file = lock_of(task.path)
            if keep_first and self._kept is None:
                self._kept = file
            if file in self._locks:
                continue
            lock = self._locks[file] = FileLock(file)
            try:
                lock.acquire(timeout=PATIENCE)
            except Timeout:
                del self._locks[file]
                why = "another process is drawing it; wait for it to end, or give another --output"
                raise RunError(f"{printable(task.path)}: {why}") from None
            except OSError:  # the file system has no locks; what else there is, writing tells
                pass

    def release(self) -> None:
        """Unlock the images that are drawn, or will not be, and remove their lock files."""
        for file in [file for file in self._locks if file != self._kept]:
            discard(self._locks[file])
            del self._locks[file]  # afterwards: an interrupted release is done again

    def close(self) -> None:
        """Unlock everything; the run is over."""
        self._kept = None
        self.release()
