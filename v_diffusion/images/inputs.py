"""Pictures that a job is given: image prompts and the picture to start from, opened."""

import os
import re
from typing import NamedTuple

from PIL.Image import Image

from ..job.job import Job
from ..shell.errors import RunError, UserError
from ..shell.paths import local
from .decode import PictureError, open_picture

IMAGE_PROMPT = "image prompt"


class Input(NamedTuple):
    """An opened picture and the SHA-256 of its file."""

    picture: Image
    sha256: str


class Inputs(NamedTuple):
    """The opened pictures of a job: its image prompts, the one to start from, and its mask."""

    images: tuple[Input, ...] = ()
    init: Input | None = None
    mask: Input | None = None


def open_input(kind: str, path: str) -> Input:
    """Open a picture, which messages call its kind. Raises UserError or RunError."""
    try:
        return Input(*open_picture(path))
    except PictureError as error:
        is_name = re.search(r"[/\\]|\.\w{1,5}$", path) or os.path.exists(local(path))
        hint = "" if is_name or kind != IMAGE_PROMPT else "; text prompts go before --images"
        # A network that fails may work the next time; a wrong name will not.
        failure = RunError if error.again else UserError
        raise failure(f"{kind} {error}{hint}") from None


def open_inputs(job: Job) -> Inputs:
    """Open the pictures of a job. Raises as `open_input`."""
    images = tuple(open_input(IMAGE_PROMPT, prompt.text) for prompt in job.images)
    named = ("init image", job.init), ("mask", job.mask)
    return Inputs(
        images, *(None if path is None else open_input(kind, path) for kind, path in named)
    )
