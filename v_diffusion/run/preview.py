"""Previews of the pictures that are being drawn."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..images import output
from ..images.names import preview_of
from ..images.output import WriteFailed

SECONDS = 1.0  # between two previews, where no number of steps is given


class Preview:
    """A sampler's callback that writes each `pred` beside the images of a batch until it closes:
    every so many steps, or for 0 about once a second, and none while the last is being written.
    """

    def __init__(self, paths: Sequence[Path], every: int) -> None:
        self._paths = paths
        self._every = every
        self._last = time.monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="preview")
        self._writing: Future[None] | None = None

    def __call__(self, info: dict[str, Any]) -> None:
        now = time.monotonic()
        if (info["i"] + 1) % self._every if self._every else now - self._last < SECONDS:
            return
        if self._writing is None or self._writing.done():
            self._last = now
            self._writing = self._thread.submit(self._write, info["pred"].detach())

    def _write(self, pictures: Any) -> None:
        from diffusion import utils

        with suppress(WriteFailed):
            for picture, path in zip(pictures, self._paths):
                output.write(utils.to_pil_image(picture), preview_of(path), None)

    def __enter__(self) -> "Preview":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._thread.shutdown(wait=True)
        finally:
            # Once more: Ctrl-C ends the wait, but not the writing.
            self._thread.shutdown(wait=True)
            for path in self._paths:
                output.remove_preview(path)
