"""Contact sheets: many images in one."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..shell.console import printable
from ..shell.errors import UserError
from ..shell.reading import read_file
from . import output
from .metadata import decode
from .names import check_sides

MOST_PIXELS = 2**30  # 3 GB; what opens pictures gives up long before


def make_sheet(images: Sequence[Image.Image], nrow: int | None = None) -> Image.Image:
    """Images of one mode and size, row by row. Places that are left over are black.

    Args:
        nrow: images a row, by default the square root of their number, rounded up.

    Raises:
        OverflowError: it would have more than MOST_PIXELS.
        ValueError: there are none, or one is of another mode or size than the first.
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


def open_image(path: Path) -> Image.Image:
    """A whole image of a file.

    Raises:
        UserError: it can't be read or is not whole.
    """
    try:
        image = decode(read_file(path))
    except OSError as error:
        raise UserError(f"can't read {printable(path)}: {error.strerror or error}") from None
    if image is None:
        why = f"has more than {Image.MAX_IMAGE_PIXELS} pixels; scale it down"
        why = why if is_huge(path) else "is no image, or damaged or truncated"
        raise UserError(f"{printable(path)} {why}")
    # Not every format has the colours that printers mix.
    return image.convert("RGB") if image.mode == "CMYK" else image


def is_huge(path: Path) -> bool:
    """Whether an image has more pixels than Pillow takes for one that somebody would send."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            Image.open(path).close()
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            return True
        except Exception:  # of damaged data Pillow raises nearly anything
            return False
    return False


def too_large() -> UserError:
    return UserError("no contact sheet: it would be too large; take a smaller --nrow")


def write_sheet(paths: Sequence[Path], output_path: Path, nrow: int | None = None) -> None:
    """A contact sheet of files, whole or not at all.

    Raises:
        UserError: one can't be read, or they don't fit together.
        WriteFailed: the sheet can't be written.
    """
    images = [open_image(path) for path in paths]
    try:
        sheet = make_sheet(images, nrow)
    except ValueError as error:
        raise UserError(f"no contact sheet: {error}") from None
    except (MemoryError, OverflowError):
        raise too_large() from None
    check_sides(str(output_path), sheet.size, "no contact sheet")
    try:
        output.write(sheet, output_path, None, "the images themselves are as they were")
    except (MemoryError, OverflowError):
        raise too_large() from None
    except (OSError, ValueError) as error:  # Pillow's, of a mode or size that a format lacks
        raise UserError(
            f"no contact sheet: {printable(output_path)}: {error}; write a .png"
        ) from None
