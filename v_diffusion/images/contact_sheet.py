"""Contact sheets: many images in one."""

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..shell.console import printable
from ..shell.errors import UserError
from ..shell.reading import read_file
from . import output
from .decode import to_rgb, upright
from .metadata import whole_image


def make_sheet(images: Sequence[Image.Image], nrow: int | None = None) -> Image.Image:
    """Return images of one mode and size in rows of nrow, by default about a square.

    Raises MemoryError or OverflowError if it would be too large.
    """
    nrow = nrow or math.ceil(math.sqrt(len(images)))
    width, height = images[0].size
    sheet = Image.new(images[0].mode, (width * nrow, height * math.ceil(len(images) / nrow)))
    for i, image in enumerate(images):
        sheet.paste(image, (width * (i % nrow), height * (i // nrow)))
    return sheet


def open_whole(path: Path) -> Image.Image:
    """Return the upright image in a file: grey, with an alpha channel, or RGB. Raises UserError."""
    try:
        image = upright(whole_image(read_file(path)))
    except OSError as error:
        raise UserError(f"can't read {printable(path)}: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{printable(path)}: {error}") from None
    # Not every format has the other modes, and a sheet has one palette and one profile.
    return image if image.mode in ("1", "L", "LA", "RGBA") else to_rgb(image)


def write_sheet(paths: Sequence[Path], output_path: Path, nrow: int | None = None) -> None:
    """Write a contact sheet of files, whole or not at all. Raises UserError or WriteFailed."""
    images = [open_whole(path) for path in paths]
    if not images:
        raise UserError("no contact sheet: there are no images")
    for path, image in zip(paths, images):
        if (image.mode, image.size) != (images[0].mode, images[0].size):
            why = f"{printable(path)} has another mode or size than the first image"
            raise UserError(f"no contact sheet: {why}; convert or scale it, or leave it out")
    try:
        sheet = make_sheet(images, nrow)
    except (MemoryError, OverflowError):
        why = "it would be too large; give a smaller --nrow, or fewer images"
        raise UserError(f"no contact sheet: {why}") from None
    output.write(sheet, output_path, None, "the images themselves are unchanged")
