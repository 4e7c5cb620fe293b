"""How far a run is: one bar on a terminal, a line for each image in a log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from ..shell.console import is_quiet, note, print_line

FORMAT = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
ENDLESS = "{desc} {elapsed}"


class Progress:
    """Tells of images that are drawn in batches.

    Args:
        images: how many there will be, None where nobody knows.
        tells: whether to say anything but the paths.
    """

    def __init__(self, images: int | None, tells: bool) -> None:
        self._images = images
        self.finished = 0
        self._tells = tells and not is_quiet()
        self._bar: tqdm[NoReturn] | None = None

    def draws(self, batch: int, step: int, steps: int) -> None:
        """A batch of so many images is at a step, from 1 on."""
        if not (self._tells and sys.stderr.isatty()):
            return
        first, last = self.finished + 1, self.finished + batch
        which = f"image {first}" if batch == 1 else f"images {first} to {last}"
        of = "" if self._images is None else f" of {self._images}"
        text = f"{which}{of}, step {step} of {steps}"
        if self._bar is None:
            form = ENDLESS if self._images is None else FORMAT
            self._bar = tqdm(
                desc=text, total=self._images, bar_format=form, leave=False, file=sys.stderr
            )
        self._bar.set_description_str(text, refresh=False)
        self._bar.update(self.finished + batch * step / steps - self._bar.n)
        if step in (1, steps):  # however soon after the last time
            self._bar.refresh()

    def is_there(self, path: Path, seconds: float | None = None) -> None:
        """An image is whole: says its path on stdout.

        Args:
            seconds: how long it took, None if it was there already.
        """
        self.finished += 1
        if self._bar is not None:
            self._bar.clear()
        print_line(path)
        if seconds is not None and self._tells and not sys.stderr.isatty():
            of = "" if self._images is None else f" of {self._images}"
            note(f"image {self.finished}{of}: {path}, {seconds:.1f} s")

    def close(self) -> None:
        """The run is over: takes the bar away."""
        if self._bar is not None:
            self._bar.close()
