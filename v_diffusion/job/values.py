"""The values that options take, checked alike from a command line, a job file and Python."""

from __future__ import annotations

import argparse
import math
import re
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

    def __call__(self, value: Any) -> Any:
        """Return a number, or the text of one, as an int or a float.

        Raises:
            argparse.ArgumentTypeError: it isn't a number in this range.
        """
        number: float = math.nan
        if not isinstance(value, bool):
            try:
                exact = isinstance(value, float) and value.is_integer()
                whole = self.whole and (exact or not isinstance(value, float))
                number = int(value) if whole else float(value)
            except (TypeError, ValueError, OverflowError):
                pass
        unfit = self.whole and not isinstance(number, int)
        if unfit or not math.isfinite(number) or not self.low <= number <= self.high:
            shown = repr(value) if len(repr(value)) < 80 else "the value"
            raise argparse.ArgumentTypeError(f"{shown} is not {self}")
        return number

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if math.isfinite(self.high):
            low, high = (end if self.whole else f"{end:g}" for end in (self.low, self.high))
            return f"{kind} from {low} to {high}"
        return (
            f"{kind} of at least {self.low}" if math.isfinite(self.low) else f"a finite {kind[2:]}"
        )


def text(value: Any) -> str:
    """An argparse type: a text that isn't empty."""
    if not isinstance(value, str):
        raise argparse.ArgumentTypeError(f"{value!r} is not a text")
    if not value:
        raise argparse.ArgumentTypeError("the name is empty")
    return value


def seed(value: Any) -> int | str:
    """An argparse type: a seed, or RANDOM."""
    if str(value) in (RANDOM, "-1"):
        return RANDOM
    found: int = Range(0, LAST_SEED, whole=True)(value)
    return found


def device(value: str) -> str:
    """An argparse type: the name of a device. PyTorch tells later whether it exists."""
    if not re.fullmatch(r"(cpu|cuda|mps)(:\d+)?", value):
        known = "cpu, cuda, cuda:1 (the second GPU) or mps"
        raise argparse.ArgumentTypeError(f"{value!r} is not the name of a device; use {known}")
    return value


def preview_interval(value: str) -> int:
    """An argparse type: the steps between two previews."""
    try:
        steps: int = COUNT(value)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; {PROMPTS_FIRST}") from None
    return steps


COUNT = Range(1, whole=True)
SIDE = Range(1, 2**15, whole=True)
