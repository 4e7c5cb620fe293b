"""Prompts: a text, path or address and its weight."""

import math
import re
from typing import NamedTuple

# Numbers after a colon that are not weights: the port of an address without a path, and the minutes
# of a time of day that stands as a word of its own.
PORT = re.compile(r"https?://(?:[^/?#@]*@)?(?:\[[^]/?#]*\]|[^][/?#@:]+):[0-9]+", re.IGNORECASE)
TIME = re.compile(r"(?:.*[^\w.:/\\-])?(?:[01]?[0-9]|2[0-3]):[0-5][0-9]\s*", re.DOTALL)


class Prompt(NamedTuple):
    """A text, or the path or address of a picture, and its weight."""

    text: str
    weight: float


def parse_prompt(prompt: str, default_weight: float = 1.0) -> Prompt:
    """Split a prompt as it was typed: at its last colon, if a finite number follows that.

    The number in `http://localhost:8000` and `at 12:30` belongs to the text.
    """
    if PORT.fullmatch(prompt) or TIME.fullmatch(prompt):
        return Prompt(prompt, default_weight)
    text, colon, tail = prompt.rpartition(":")
    try:
        weight = float(tail)
    except ValueError:
        weight = math.nan
    found = colon and math.isfinite(weight)
    return Prompt(text, weight) if found else Prompt(prompt, default_weight)


def write_prompt(prompt: Prompt, default_weight: float = 1.0) -> str:
    """Return what `parse_prompt` splits into this prompt."""
    text, weight = prompt
    if parse_prompt(text, default_weight) == prompt:
        return text
    short = f"{text}:{repr(weight).removesuffix('.0')}"
    # A whole number could be taken for a port or for minutes.
    return short if parse_prompt(short, default_weight) == prompt else f"{short}.0"
