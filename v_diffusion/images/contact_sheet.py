"""Contact sheets: many images in one."""

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..shell.console import printable
from ..shell.errors import UserError
from ..shell.reading import read_file
from . import output
from .metadata import whole_image
from .names import check_sides

MOST_PIXELS = 2**30  # 3 GB, far more than any program opens
TOO_LARGE = "no contact sheet: it would be too large; give a smaller --nrow, or fewer images"


def make_sheet(images: Sequence[Image.Image], nrow: int | None = None) -> Image.Image:
    """Return images of one mode and size, row by row. Places that are left over are black.

    Args:
        nrow: images a row, by default the square root of their number, rounded up.

    Raises:
        OverflowError: it would have more than MOST_PIXELS.
        ValueError: there are none, or one has another mode or size than the first.
    """
    if not images:
        raise ValueError("there are no images")
    first = images[0]
    for number, image in enumerate(images, 1):
        for what in ("mode", "size"):
            own, other = getattr(image, what), getattr(first, what)
            if own != other:
                raise ValueError(f"image {number} has the {what} {own} and the first has {other}")
    nrow = nrow or math.ceil(math.sqrt(len(images)))
    width, height = first.size
    size = width * nrow, height * math.ceil(len(images) / nrow)
    if size[0] * size[1] > MOST_PIXELS:
        raise OverflowError
    sheet = Image.new(first.mode, size)
    for i, image in enumerate(images):
        sheet.paste(image, (width * (i % nrow), height * (i // nrow)))
    return sheet


def open_whole(path: Path) -> Image.Image:
    """Return the image in a file.

    Raises:
        UserError: it can't be read or is not whole.
    """
    try:
        image = whole_image(read_file(path))
    except OSError as error:
        raise UserError(f"can't read {printable(path)}: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{printable(path)}: {error}") from None
    # Not every format has the colours that printers mix.
    return image.convert("RGB") if image.mode == "CMYK" else image


def write_sheet(paths: Sequence[Path], output_path: Path, nrow: int | None = None) -> None:
    """Write a contact sheet of files, whole or not at all.

    Raises:
        UserError: one can't be read, or they don't fit together.
        WriteFailed: the sheet can't be written.
    """
    images = [open_whole(path) for path in paths]
    try:
        sheet = make_sheet(images, nrow)
        check_sides(str(output_path), sheet.size, "no contact sheet")
        output.write(sheet, output_path, None, "the images themselves are unchanged")
    except (MemoryError, OverflowError):
        raise UserError(TOO_LARGE) from None
    except ValueError as error:
        raise UserError(f"no contact sheet: {error}") from None
    except OSError as error:  # Pillow's, of a mode that a format lacks
        name = printable(output_path)
        raise UserError(f"no contact sheet: {name}: {error}; write a .png") from None
