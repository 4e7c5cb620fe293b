"""Progress of a run: one bar on a terminal, a line for each image in a log."""

import sys
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from ..shell.console import is_quiet, note, print_line

FORMAT = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


class Progress:
    """Reports images that are drawn in batches: their paths, and, if it tells, more."""

    def __init__(self, images: int | None, tells: bool) -> None:
        self._images = images
        self._of = "" if images is None else f" of {images}"
        self.finished = 0
        self._tells = tells and not is_quiet()
        self._bar: tqdm[NoReturn] | None = None

    def draws(self, batch: int, step: int, steps: int, done: float) -> None:
        """Show that a batch is at a step, from 1 on, with a share of its work done at its end."""
        if not (self._tells and sys.stderr.isatty()):
            return
        first, last = self.finished + 1, self.finished + batch
        which = f"image {first}" if batch == 1 else f"images {first} to {last}"
        if self._bar is None:
            self._bar = tqdm(total=self._images, bar_format=FORMAT, leave=False, file=sys.stderr)
        text = f"{which}{self._of}, step {step} of {steps}"
        self._bar.set_description_str(text, refresh=False)
        self._bar.update(self.finished + batch * done - self._bar.n)
        if step in (1, steps):  # however soon after the last refresh
            self._bar.refresh()

    def is_there(self, path: Path, seconds: float | None = None) -> None:
        """Print the path of an image on stdout, and the seconds that it took unless it existed."""
        self.finished += 1
        if self._bar is not None:
            self._bar.clear()
        print_line(path)
        if seconds is not None and self._tells and not sys.stderr.isatty():
            note(f"image {self.finished}{self._of}: {path}, {seconds:.1f} s")

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
