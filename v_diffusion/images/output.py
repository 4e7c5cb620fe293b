"""Image files: written whole or not at all, and which of them can stay as they are."""

import errno
import io
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from ..shell.console import printable
from ..shell.errors import RunError, UserError
from ..shell.writing import draft_of, followed, sweep, write_whole
from .metadata import embedding, record_in, whole_image
from .names import FORMATS, preview_of
from .record import difference

OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}
# The message where numbers came out that are no picture's.
NO_PICTURE = (
    "the picture has numbers that are not finite, or enormous: a file of weights is damaged, or "
    "the guidance scale or a prompt's weight too large, or the steps too few for the method"
)
RESUMED = "the images before it are whole, and --resume continues with this one"


class WriteFailed(RunError):
    """A file couldn't be written, after which no other can be expected to be."""


def is_there(path: Path) -> bool:
    """Return True if there is anything where a file would be written."""
    return os.path.lexists(followed(path))


def remove_preview(path: Path) -> None:
    """Remove the preview of an image, if there is one."""
    with suppress(OSError):  # the name can be too long for there to be one
        preview_of(path).unlink(missing_ok=True)


def check_length(path: Path) -> None:
    """Raise a UserError for a name that is too long for the folder's file system."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            text = f"--output: {printable(path)}: the name is too long; shorten it"
            raise UserError(text) from None


def prepare(paths: Iterable[Path]) -> None:
    """Make the folders of these files and try to write there.

    Raises:
        UserError: files can't be written there.
    """
    folders: dict[Path, set[str]] = {}
    for path in map(followed, paths):
        folders.setdefault(path.parent, set()).add(path.name)
    for folder, names in folders.items():
        check_length(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
            longest = folder / max(sorted(names), key=lambda name: len(os.fsencode(name)))
            check_length(longest)
            draft = draft_of(longest)  # permission bits don't say what root may do
            try:
                draft.write_bytes(b"")
            finally:
                draft.unlink(missing_ok=True)
        except (FileExistsError, NotADirectoryError):
            why = "can't be a folder, since it or its parent is a file; give another name"
            raise UserError(f"--output: {printable(folder)} {why}") from None
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"--output: can't write to {printable(folder)}: {reason}") from None


def encode(image: Image.Image, path: Path, metadata: Mapping[str, Any] | None) -> bytes:
    """Return the content of an image's file: always the same for the same image and record.

    Raises:
        UserError: the record doesn't fit into a file of this format.
    """
    format = FORMATS[path.suffix.lower()]
    try:
        embedded = {} if metadata is None else embedding(metadata, format)
    except ValueError as error:
        raise UserError(f"{printable(path)}: {error}") from None
    file = io.BytesIO()
    image.save(file, format, **OPTIONS[format], **embedded)
    return file.getvalue()


def check_room(path: Path, metadata: Callable[[], Mapping[str, Any]]) -> None:
    """Make sure before anything is sampled that a record fits into a file of this format.

    Args:
        metadata: returns the record, which is asked for only if the format has a limit.

    Raises:
        UserError: it doesn't.
    """
    if FORMATS[path.suffix.lower()] == "JPEG":
        encode(Image.new("RGB", (1, 1)), path, metadata())


def write(
    image: Image.Image,
    path: Path,
    metadata: Mapping[str, Any] | None,
    advice: str = RESUMED,
    swept: bool = False,
) -> None:
    """Write an image, whole or not at all.

    Args:
        image: grey or RGB.
        path: its suffix is the format. A symbolic link stays, and its file is written.
        metadata: its record, or None to write none.
        advice: added to the reason if it can't be written.
        swept: `prepare` has been there: to list a folder of very many files takes its time.

    Raises:
        UserError: the record doesn't fit into a file of this format.
        WriteFailed: the disk is full, or the folder is gone, or the like.
    """
    # Pillow would not say why a write of its own failed.
    content = encode(image, path, metadata)
    place = followed(path)
    try:
        if not swept:
            sweep(place.parent)
        write_whole(place, content)
    except OSError as error:
        reason = error.strerror or error
        raise WriteFailed(f"can't write {printable(path)}: {reason}; {advice}") from None


def is_done(path: Path, record: Mapping[str, Any]) -> bool:
    """Return True if a resumed run can leave out an image: its file is whole, with these settings.

    Args:
        record: how the run would make the image.

    Raises:
        UserError: the file is whole, but was made with other or unknown settings, or it can't be
            read.
    """
    try:
        image = whole_image(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        raise UserError(f"can't read {printable(path)}: {error.strerror or error}") from None
    try:
        found = difference(record_in(image) or {}, record)
    except (KeyError, TypeError, AttributeError):
        why = "does not say how it was made"
    else:
        if found is None:
            return True
        why = "has other settings: {} is {} there and {} here".format(*found)
    remedy = "give another --output, or leave out --resume to replace it"
    raise UserError(f"--resume: {printable(path)} {why}; {remedy}")
