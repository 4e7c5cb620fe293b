"""The files of weights that a job needs: where they are, and what they hash to."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from checkpoints import store
from checkpoints.console import shown
from checkpoints.place import at_home

from .job import Job
from .shell import RunError, UserError


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
        model = at_home(job.checkpoint) if job.checkpoint else store.obtain(job.model)
        clip = at_home(job.clip_checkpoint) if job.clip_checkpoint and job.asks_clip else None
        if job.asks_clip and clip is None:
            clip = store.obtain(job.clip, [at_home(store.CLIP_CACHE)])
    except store.CheckpointError as error:
        raise RunError(error) from None
    return Files(model, clip)


def fetches_clip(job: Job) -> bool:
    """Whether the file of a job's CLIP is to be fetched."""
    if job.clip_checkpoint is not None or not job.asks_clip:
        return False
    return store.locate(store.cards()[job.clip], [at_home(store.CLIP_CACHE)]) is None


def check_files(job: Job) -> None:
    """Raises UserError where a file of weights that a job names is none."""
    for option in ("checkpoint", "clip_checkpoint"):
        path = getattr(job, option)
        if path is not None and not os.path.isfile(at_home(path)):
            raise UserError(f"--{option.replace('_', '-')}: {shown(path)} is not a file")


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
