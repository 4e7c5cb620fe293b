"""The files of weights that there are: a card for each, as checkpoints/cards.json has it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..shell.errors import ProgramError, UserError

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = (PACKAGE.parent / "pyproject.toml").is_file()  # else a package that was installed
FOLDER = (PACKAGE.parent if CHECKOUT else PACKAGE) / "checkpoints"  # what is shipped
CARDS = FOLDER / "cards.json"


class CheckpointError(ProgramError, RuntimeError):
    """A file of weights can't be had or used. Its text is the whole message to the user."""


@dataclass(frozen=True)
class Card:
    """The facts about a file of weights; those from `clip` on are a diffusion model's.

    Args:
        name: what the user calls it.
        kind: "diffusion" or "clip".
        bytes: about its size.
        urls: its addresses, in the order to try.
        shipped: it is part of the repository.
        clip: the card of the CLIP that it is conditioned on.
        side: the width and height of its pictures; others have to be multiples of `multiple`.
        unprompted: it can draw without an embedding, all zeros.
        sampling: the defaults of the sampling script's options.
        vocabulary: the file that lists what it has learned by words.
        memory: the bytes that one more takes on a CPU, by `python -m benchmark memory`: a
            `picture`, a `guided` one without its cutouts; of a CLIP a `cutout`.
    """

    name: str
    kind: str
    file: str
    sha256: str
    bytes: int
    urls: tuple[str, ...]
    shipped: bool
    clip: str | None = None
    side: int = 0
    multiple: int = 1
    unprompted: bool = False
    sampling: Mapping[str, float] = field(default_factory=dict)
    vocabulary: str | None = None
    memory: Mapping[str, float] = field(default_factory=dict)


def cards() -> dict[str, Card]:
    """Return the cards by name."""
    data = json.loads(CARDS.read_text("utf-8"))
    return {
        name: Card(**{**card, "name": name, "urls": tuple(card["urls"])})
        for name, card in data.items()
    }


def find_card(name: str) -> Card:
    """Return the card of a name. Raise UserError where there is none."""
    known = cards()
    if name not in known:
        raise UserError(f"no checkpoint {name!r}: there are {', '.join(known)}")
    return known[name]
