"""Pictures of what is being drawn."""

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from diffusion import utils

from ..images import output
from ..images.names import preview_of
from ..images.output import WriteFailed

SECONDS = 1.0  # between two, where nobody says how many steps


class Preview:
    """A sampler's callback that writes each `pred`, beside the images of a batch, until it closes.

    A step never waits for a file: a thread of its own writes the newest pred when it comes to it.

    Args:
        paths: of the images, in the batch's order.
        every: so many steps, or 0 for about once a second.
    """

    def __init__(self, paths: Sequence[Path], every: int) -> None:
        self._paths = [preview_of(path) for path in paths]
        self._every = every
        self._last = time.monotonic()
        self._newest: deque[Tensor] = deque(maxlen=1)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="preview")
        self._writing: Future[None] | None = None

    def __call__(self, info: dict[str, Any]) -> None:
        now = time.monotonic()
        if (info["i"] + 1) % self._every if self._every else now - self._last < SECONDS:
            return
        self._last = now
        self._newest.append(info["pred"].detach())
        if self._writing is None or self._writing.done():
            self._writing = self._thread.submit(self._write)

    def _write(self) -> None:
        with suppress(IndexError, WriteFailed):  # until there is none; and it is but a preview
            while True:
                for picture, path in zip(self._newest.popleft(), self._paths):
                    output.write(utils.to_pil_image(picture), path, None)

    def __enter__(self) -> "Preview":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._newest.clear()
        try:
            self._thread.shutdown(wait=True)
        finally:
            # Once more: a Ctrl-C ends the wait, but not what the thread is writing.
            self._thread.shutdown(wait=True)
            for path in self._paths:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
