"""The values that options take, checked alike from a command line, a job file and Python."""

import argparse
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

LAST_SEED = 2**64 - 1
RANDOM = "random"
PROMPTS_FIRST = "put prompts before the options, or after --"


@dataclass(frozen=True)
class Range:
    """An argparse type: finite numbers from low to high."""

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    other: str = ""  # what else there is

    def __call__(self, value: Any) -> Any:
        """Return a number, or the text of one, as an int or a float."""
        number: float = math.nan
        with suppress(TypeError, ValueError, OverflowError):
            number = int(value) if self.whole else float(value)
        rounded = not isinstance(value, str) and number != value
        in_range = self.low <= number <= self.high and abs(number) < math.inf
        if isinstance(value, bool) or rounded or not in_range:
            raise argparse.ArgumentTypeError(f"{value!r} is not {self}")
        return number

    def __str__(self) -> str:
        kind = "whole number" if self.whole else "number"
        if self.low == -math.inf:
            return f"a finite {kind}"
        if self.high == math.inf:
            return f"a {kind} of at least {self.low}"
        return f"a {kind} from {self.low} to {self.high}{self.other}"


def text(value: Any) -> str:
    """An argparse type: a text or a path."""
    if not isinstance(value, (str, os.PathLike)):
        raise argparse.ArgumentTypeError(f"{value!r} is not a text")
    return os.fspath(value)


def seed(value: Any) -> int | str:
    """An argparse type: a seed, or RANDOM."""
    if str(value) in (RANDOM, "-1"):
        return RANDOM
    found: int = Range(0, LAST_SEED, True, f" or {RANDOM}")(value)
    return found


COUNT = Range(1, whole=True)
SIDE = Range(1, 2**15, whole=True)
