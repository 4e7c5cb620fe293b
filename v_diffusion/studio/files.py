"""The files of weights that a job needs: where they are, and what they hash to."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ..job.job import Job
from ..shell.console import printable
from ..shell.paths import expand_user
from ..shell.program import RunError, UserError
from ..weights import store


class Files(NamedTuple):
    """A diffusion model's file and its CLIP's, None where no job asks CLIP anything."""

    model: Path
    clip: Path | None


def find_files(job: Job) -> Files:
    """The files of a job, fetched if need be.

    Raises:
        RunError: one can't be had.
    """
    try:
        model = expand_user(job.checkpoint) if job.checkpoint else store.obtain(job.model)
        clip = expand_user(job.clip_checkpoint) if job.clip_checkpoint and job.asks_clip else None
        if job.asks_clip and clip is None:
            clip = store.obtain(job.clip, [expand_user(store.CLIP_CACHE)])
    except store.CheckpointError as error:
        raise RunError(error) from None
    return Files(model, clip)


def fetches_clip(job: Job) -> bool:
    """Whether the file of a job's CLIP is to be fetched."""
    if job.clip_checkpoint is not None or not job.asks_clip:
        return False
    return store.locate(store.cards()[job.clip], [expand_user(store.CLIP_CACHE)]) is None


def check_files(job: Job) -> None:
    """Raises UserError where a file of weights that a job names is none."""
    for option in ("checkpoint", "clip_checkpoint"):
        path = getattr(job, option)
        if path is not None and not os.path.isfile(expand_user(path)):
            raise UserError(f"--{option.replace('_', '-')}: {printable(path)} is not a file")


class Hashes:
    """The SHA-256 of files, each computed once, while the program goes on."""

    def __init__(self) -> None:
        self._found: dict[Path, Future[str]] = {}

    def start(self, files: Files) -> None:
        """Begins with those that are not begun yet."""
        missing = [path for path in files if path is not None and path not in self._found]
        if missing:
            threads = ThreadPoolExecutor(len(missing))
            self._found |= {path: threads.submit(store.sha256, path) for path in missing}
            threads.shutdown(wait=False)

    def of(self, files: Files) -> tuple[str, str | None]:
        """The hashes of the model's file and of CLIP's; waits for them if need be."""
        self.start(files)
        clip = None if files.clip is None else self._found[files.clip].result()
        return self._found[files.model].result(), clip
