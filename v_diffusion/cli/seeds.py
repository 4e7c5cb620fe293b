"""Seeds that nobody has chosen. Importing this imports no torch."""

import argparse
import secrets

from ..job.limits import NUMBERS
from ..run.ranks import this_rank
from ..shell.program import UserError

RANDOM = "random"
DRAWN = 2**32  # below this, for seeds that can be read


def is_random(value: object) -> bool:
    """Whether a seed is to be drawn."""
    return str(value) in (RANDOM, "-1")


def seed(text: str) -> int | str:
    """An argparse type: a seed, or that it is to be drawn."""
    try:
        chosen: int | str = RANDOM if is_random(text) else NUMBERS["seed"](text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor {RANDOM}") from None
    return chosen


def draw() -> int:
    """A seed from the system's own randomness.

    Raises:
        UserError: several processes share the pictures, and each would draw another.
    """
    if this_rank().of > 1:
        raise UserError("--seed random: several processes would draw different ones; give a number")
    return secrets.randbelow(DRAWN)
