"""The files of weights that a job needs, and their hashes."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ..job.job import Job
from ..shell.console import printable
from ..shell.errors import RunError, UserError
from ..shell.paths import expand_user
from ..weights import store


class Files(NamedTuple):
    """The files of a diffusion model and of its CLIP, None where CLIP isn't needed."""

    model: Path
    clip: Path | None


def find_files(job: Job) -> Files:
    """Return the files of a job, fetched if need be.

    Raises:
        RunError: one can't be had.
    """
    try:
        model = expand_user(job.checkpoint) if job.checkpoint else store.obtain(job.model)
        clip = expand_user(job.clip_checkpoint) if job.clip_checkpoint and job.asks_clip else None
        if job.asks_clip and clip is None:
            clip = store.obtain(job.clip)
    except store.CheckpointError as error:
        raise RunError(error) from None
    return Files(model, clip)


def check_files(job: Job) -> None:
    """Raise UserError if a job names weights that aren't a file."""
    for option in ("checkpoint", "clip_checkpoint"):
        path = getattr(job, option)
        if path is not None and not os.path.isfile(expand_user(path)):
            text = f"{printable(path)} is not a file; give the path of the weights"
            raise UserError(f"--{option.replace('_', '-')}: {text}")


class Hashes:
    """The SHA-256 of files, each computed once, in the background."""

    def __init__(self) -> None:
        self._found: dict[Path, Future[str]] = {}

    def start(self, files: Files) -> None:
        """Start with those that aren't known yet."""
        missing = [path for path in files if path is not None and path not in self._found]
        if missing:
            threads = ThreadPoolExecutor(len(missing))
            self._found |= {path: threads.submit(store.sha256, path) for path in missing}
            threads.shutdown(wait=False)

    def of(self, files: Files) -> tuple[str, str | None]:
        """Return the hashes of the model's file and of CLIP's; wait for them if need be."""
        self.start(files)
        clip = None if files.clip is None else self._found[files.clip].result()
        return self._found[files.model].result(), clip
