"""Image files: written whole or not at all, and which of them can stay as they are."""

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..shell.console import printable
from ..shell.errors import RunError, UserError
from ..shell.writing import followed, sweep, write_whole
from .decode import srgb_profile
from .metadata import embedding, record_in, whole_image
from .names import FILM_FORMATS, FORMATS, preview_of
from .record import difference

OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}
SHOWN, HELD = 80, 2000  # milliseconds of a film's frame, and of its last one
ADVICE = "the images before it are whole, and --resume continues with this one"
# The message where numbers came out that are no picture's.
NO_PICTURE = (
    "the picture has numbers that are not finite, or enormous: a file of weights is damaged, or "
    "the guidance scale or a prompt's weight too large, or the steps too few for the method"
)


class WriteFailed(RunError):
    """A file couldn't be written, after which no other can be expected to be."""


def is_there(path: Path) -> bool:
    """Return True if there is anything where a file would be written."""
    return os.path.lexists(followed(path))


def remove_preview(path: Path) -> None:
    """Remove the preview of an image, if there is one."""
    with suppress(OSError):  # the name can be too long for there to be one
        preview_of(path).unlink(missing_ok=True)


def prepare(paths: Iterable[Path]) -> None:
    """Make and sweep the folders of these files, or raise a UserError if one isn't writable."""
    for folder in sorted({followed(path).parent for path in paths}):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
            TemporaryFile(dir=folder).close()  # permission bits don't say what root may do
        except OSError as error:
            why = f"can't write to {printable(folder)}: {error.strerror or error}"
            raise UserError(f"--output: {why}; give another name") from None


def saved(image: Image.Image, path: Path, format: str, options: Mapping[str, Any]) -> bytes:
    """Return the content of a file, or raise a UserError if the format can't hold the image."""
    file = io.BytesIO()
    try:
        image.save(file, format, **options)
    except (OSError, ValueError) as error:  # in Pillow's words
        raise UserError(f"{printable(path)}: {error}; write a .png") from None
    return file.getvalue()


def encode(image: Image.Image, path: Path, metadata: Mapping[str, Any] | None) -> bytes:
    """Return the content of an image's file, or raise a UserError if the format can't hold it."""
    format = FORMATS[path.suffix.lower()]
    options = OPTIONS[format] | ({} if metadata is None else embedding(metadata, format))
    if format == "PNG":
        options.setdefault("pnginfo", PngInfo()).add(b"sRGB", b"\0")
    elif image.mode.startswith("RGB"):
        options["icc_profile"] = srgb_profile()
    return saved(image, path, format, options)


def film_of(frames: Sequence[bytes], picture: Image.Image, path: Path) -> bytes:
    """Return the content of a film's file: frames, as PNGs, and the picture. Raises UserError."""
    format = FILM_FORMATS[path.suffix.lower()]
    images = [*(Image.open(io.BytesIO(frame)) for frame in frames), picture]
    if format == "GIF":  # by itself it would take the slowest way to 256 colours
        images = [image.quantize(method=Image.Quantize.FASTOCTREE) for image in images]
    first, *rest = images
    durations = [*(SHOWN for _ in rest), HELD]
    options = {"save_all": True, "append_images": rest, "duration": durations, "loop": 0}
    return saved(first, path, format, OPTIONS.get(format, {}) | options)


def write(
    image: Image.Image,
    path: Path,
    metadata: Mapping[str, Any] | None,
    advice: str = ADVICE,
    swept: bool = False,
) -> None:
    """Write an image and its record in the format of its suffix. Raises as `write_content`."""
    write_content(encode(image, path, metadata), path, advice, swept)


def write_content(content: bytes, path: Path, advice: str = ADVICE, swept: bool = False) -> None:
    """Write a file whole, or raise WriteFailed, with advice, and leave what was there as it was.

    A symbolic link stays, and its file is written. If `swept`, `prepare` has been in the folder.
    """
    place = followed(path)
    try:
        if not swept:
            sweep(place.parent)
        write_whole(place, content)
    except OSError as error:
        reason = error.strerror or error
        raise WriteFailed(f"can't write {printable(path)}: {reason}; {advice}") from None


def is_done(path: Path, record: Mapping[str, Any]) -> bool:
    """Tell if a file is whole with this record. Raise a UserError if it is whole with another."""
    try:
        image = whole_image(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        raise UserError(f"can't read {printable(path)}: {error.strerror or error}") from None
    why = "does not say how it was made"
    with suppress(KeyError, TypeError, ValueError):
        found = difference(record_in(image) or {}, record)
        if found is None:
            return True
        why = "has other settings: {} is {} there and {} here".format(*found)
    remedy = "give another --output, or leave out --resume to replace it"
    raise UserError(f"--resume: {printable(path)} {why}; {remedy}")
