"""Prompts: what was typed to texts and opened pictures, and those to a target in CLIP's space.

Importing this imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .shell import UserError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor

    from CLIP.model import CLIP


def parse_prompt(prompt: str) -> tuple[str, float]:
    """Splits a prompt into its text, path or address and its weight.

    What follows the last colon is the weight if it is a finite number; otherwise it is part of the
    text, and the weight is 1.
    """
    text, colon, tail = prompt.rpartition(":")
    try:
        weight = float(tail)
    except ValueError:
        return prompt, 1.0
    return (text, weight) if colon and math.isfinite(weight) else (prompt, 1.0)


def write_prompt(text: str, weight: float) -> str:
    """The prompt that `parse_prompt` splits into this text and weight."""
    return text if parse_prompt(text) == (text, weight) else f"{text}:{weight!r}"


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
    """

    texts: tuple[tuple[str, float], ...]
    images: tuple[ImagePrompt, ...]


def open_subject(texts: Iterable[str], images: Iterable[str]) -> Subject:
    """Takes the prompts apart and opens those that are images.

    Raises:
        UserError: one can't be opened or is no picture.
    """
    opened = []
    for prompt in images:
        from . import pictures

        path, weight = parse_prompt(prompt)
        try:
            opened.append(ImagePrompt(path, weight, *pictures.open_picture(path)))
        except pictures.PictureError as error:
            raise UserError(f"image prompt {error}") from None
    return Subject(tuple(map(parse_prompt, texts)), tuple(opened))


def cut_warning(text: str) -> str | None:
    """What to say of a text that CLIP can't see to its end."""
    from CLIP import clip

    kept = clip.kept_text(text)
    if kept is None:
        return None
    where = f'is cut after "...{kept[-40:]}"'
    return f"warning: a prompt is longer than CLIP's 77 tokens and {where}"


def encode_images(
    subject: Subject, clip_model: CLIP, side: int, stream: torch.Generator
) -> Iterator[tuple[Tensor, float]]:
    """The embeddings of each image prompt's cutouts, [16, D], and its weight.

    Args:
        side: the shorter side of the model's pictures.
        stream: where the cutouts are drawn from, one image after the other.
    """
    from CLIP import prompts

    device = clip_model.logit_scale.device
    for image in subject.images:
        yield prompts.encode_image(clip_model, image.picture, side, stream, device), image.weight


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
