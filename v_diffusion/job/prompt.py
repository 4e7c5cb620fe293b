"""Prompts: what was typed to texts and opened pictures, and those to a target in CLIP's space.

Importing this imports no torch.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..shell.paths import local
from ..shell.program import RunError, UserError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Generator, Tensor

    from CLIP.guidance import MakeCutouts
    from CLIP.model import CLIP


# Two ends of a prompt that are numbers and no weights: the port of an address without a path, and
# the minutes of a time of day that stands as a word of its own.
PORT = re.compile(r"https?://(?:[^/?#@]*@)?(?:\[[^]/?#]*\]|[^][/?#@:]+):[0-9]+", re.IGNORECASE)
TIME = re.compile(r"(?:.*[^\w.:/\\-])?(?:[01]?[0-9]|2[0-3]):[0-5][0-9]\s*", re.DOTALL)

IMAGE_PROMPT = "image prompt"  # what messages call it


def parse_prompt(prompt: str, default_weight: float = 1.0) -> tuple[str, float]:
    """Splits a prompt into its text, path or address and its weight.

    What follows the last colon is the weight if it is a finite number; otherwise it is part of the
    text, and the weight is the default. So it is in `http://localhost:8000` and in `at 12:30`; a
    weight of theirs follows after one more colon.
    """
    if PORT.fullmatch(prompt) or TIME.fullmatch(prompt):
        return prompt, default_weight
    text, colon, tail = prompt.rpartition(":")
    try:
        weight = float(tail)
    except ValueError:
        return prompt, default_weight
    return (text, weight) if colon and math.isfinite(weight) else (prompt, default_weight)


def write_prompt(text: str, weight: float, default_weight: float = 1.0) -> str:
    """The prompt that `parse_prompt` splits into this text and weight."""
    if parse_prompt(text, default_weight) == (text, weight):
        return text
    short = f"{text}:{repr(weight).removesuffix('.0')}"
    # A whole number could be taken for a port or for minutes.
    return short if parse_prompt(short, default_weight) == (text, weight) else f"{short}.0"


class Opened(NamedTuple):
    """A picture that has been opened."""

    path: str
    picture: Image
    sha256: str  # of its file


class ImagePrompt(NamedTuple):
    """An image prompt that has been opened."""

    path: str
    weight: float
    picture: Image
    sha256: str  # of its file


@dataclass(frozen=True)
class Subject:
    """What a picture is to show.

    Args:
        texts: each with its weight.
        images: the opened image prompts.
        init: the opened picture to start from.
    """

    texts: tuple[tuple[str, float], ...]
    images: tuple[ImagePrompt, ...]
    init: Opened | None = None


def open_named(what: str, path: str) -> Opened:
    """Opens a picture.

    Args:
        what: it is, for messages.

    Raises:
        UserError: it can't be opened or is no picture.
        RunError: the network fails.
    """
    from ..images import decode as pictures  # imports Pillow

    try:
        return Opened(path, *pictures.open_picture(path))
    except pictures.PictureError as error:
        advice = "; a text belongs to the prompts, before --images"
        named = re.search(r"[/\\]|\.\w{1,5}$", path) or os.path.exists(local(path))
        is_text = what == IMAGE_PROMPT and not named
        # Who asks again after a failure may have more luck; after a mistake not.
        kind = RunError if error.again else UserError
        raise kind(f"{what} {error}{advice if is_text else ''}") from None


def open_subject(
    texts: Iterable[str],
    images: Iterable[str],
    init: str | None = None,
    default_weight: float = 1.0,
) -> Subject:
    """Takes the prompts apart and opens those that are images, and the picture to start from.

    Raises:
        UserError: one can't be opened or is no picture.
        RunError: the network fails.
    """
    opened = []
    for prompt in images:
        path, weight = parse_prompt(prompt, default_weight)
        _, picture, sha256 = open_named(IMAGE_PROMPT, path)
        opened.append(ImagePrompt(path, weight, picture, sha256))
    parsed = tuple(parse_prompt(text, default_weight) for text in texts)
    start = None if init is None else open_named("init image", init)
    return Subject(parsed, tuple(opened), start)


def cut_warning(text: str) -> str | None:
    """What to say of a text that CLIP can't see to its end."""
    from CLIP import clip

    kept = clip.kept_text(text)
    if kept is None:
        return None
    where = f'is cut after "...{kept[-40:]}"'
    return f"warning: a prompt is longer than CLIP's 77 tokens and {where}"


def encode_images(
    subject: Subject, clip_model: CLIP, make_cutouts: MakeCutouts, side: int, stream: Generator
) -> Iterator[tuple[Tensor, float]]:
    """The embeddings of each image prompt's cutouts, [cutn, D], and its weight.

    Args:
        side: the shorter side of the pictures to draw.
        stream: where the cutouts are drawn from, one image after the other.
    """
    from CLIP import prompts

    for image in subject.images:
        encoded = prompts.encode_image(clip_model, image.picture, make_cutouts, side, stream)
        yield encoded, image.weight


def encode_whole(image: ImagePrompt, clip_model: CLIP) -> Tensor:
    """The normalised embedding of an image prompt's largest centred square, [1, D]."""
    from CLIP import prompts

    from ..images.decode import resize_and_center_crop

    side = clip_model.visual.input_resolution
    return prompts.encode_square(clip_model, resize_and_center_crop(image.picture, (side, side)))


def combine(encoded: Iterable[tuple[Tensor, float]]) -> Tensor:
    """The target of all prompts together, [1, D], normalised.

    Raises:
        UserError: the weights of the prompts can't be used.
    """
    from CLIP import prompts

    try:
        return prompts.combine(list(encoded))
    except ValueError as error:
        raise UserError(error) from None
