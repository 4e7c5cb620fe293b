"""Films of pictures that come out of the noise."""

import io
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

FRAMES = 50  # the most that a film has


class Film:
    """A sampler's callback that keeps about `FRAMES` preds of the wanted pictures of a batch,
    evenly over the steps, but for the last step's, in whose place the picture comes.
    """

    def __init__(self, wanted: Collection[int]) -> None:
        self._wanted = wanted
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="film")
        self._frames: list[Future[dict[int, bytes]]] = []

    def __call__(self, info: dict[str, Any]) -> None:
        i, of = info["i"], info["of"]
        if self._wanted and i + 1 < of and (i + 1) * FRAMES // of > i * FRAMES // of:
            self._frames.append(self._thread.submit(self._compress, info["pred"].detach()))

    def _compress(self, preds: Any) -> dict[int, bytes]:
        from diffusion import utils

        found = {}
        for number in self._wanted:
            file = io.BytesIO()
            utils.to_pil_image(preds[number]).save(file, "PNG", compress_level=1)
            found[number] = file.getvalue()
        return found

    def frames(self, number: int) -> list[bytes]:
        """Return the frames of a picture, as PNGs."""
        return [frame.result()[number] for frame in self._frames]
