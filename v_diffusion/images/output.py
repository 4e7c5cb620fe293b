"""The images' files: written whole or not at all, and which of them are there already."""

import errno
import io
import os
import platform
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from ..shell.console import printable
from .metadata import MetadataError, decode, embedding, record_in
from .names import FORMATS, BadOutput, WriteFailed, preview_of
from .record import difference

OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}
# Several machines may write to one folder, and a process is alive only where it runs.
MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"
DRAFT = re.compile(r"\.(.+?)(?:\.([0-9a-f]{8}))?\.(\d+)\.partial", re.DOTALL)
# What to say of numbers that came out and are none.
NO_PICTURE = (
    "the picture has numbers that are not finite, or enormous: a file of weights is damaged, or "
    "the guidance scale or a prompt's weight too large, or the steps too few for the method"
)


LONGEST = 200  # bytes of a name to which a draft's can add its own


def stem_of(name: str) -> str:
    """What drafts have of a file's name: a long one would grow too long."""
    coded = os.fsencode(name)
    return name if len(coded) <= LONGEST else f"{zlib.crc32(coded):08x}"


def draft_of(path: Path, pid: int) -> Path:
    """Where a process of this machine writes a file before it gets its name."""
    return path.with_name(f".{stem_of(path.name)}.{MACHINE}.{pid}.partial")


def followed(path: Path) -> Path:
    """The path itself, or of a symbolic link that of the file that it stands for."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


def is_there(path: Path) -> bool:
    """Whether there is anything where a file would be written."""
    return os.path.lexists(followed(path))


def remove_preview(path: Path) -> None:
    """Removes the preview of an image, if there is one."""
    with suppress(OSError):  # the name can be too long for there to be one
        preview_of(path).unlink(missing_ok=True)


def alive(pid: int) -> bool:
    """Whether the process may be running."""
    if os.name != "posix":
        return True  # there is no harmless signal to ask with
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is someone else's
        pass
    return True


def sweep(folder: Path, names: Collection[str], others: bool = False) -> None:
    """Removes what killed processes of this machine left of files of these names in a folder.

    Args:
        others: of those of other names too, where it says that it is this machine's.

    Raises:
        OSError: the folder can't be listed.
    """
    names = {stem_of(name) for name in names}
    for entry in os.listdir(folder):
        draft = entry.endswith(".partial") and DRAFT.fullmatch(entry)
        if not draft or draft[2] not in (None, MACHINE):
            continue
        if draft[1] not in names and not (others and draft[2]):
            continue
        pid = int(draft[3])
        if pid == os.getpid() or not alive(pid):
            with suppress(OSError):  # another process may have been faster
                os.unlink(folder / entry)


def check_length(path: Path) -> None:
    """Raises BadOutput for a name that is too long for the folder's file system."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            text = f"--output: {printable(path)}: the name is too long; shorten it"
            raise BadOutput(text) from None


def prepare(paths: Iterable[Path]) -> None:
    """Makes the folders of these files and tries whether files can be written there.

    Raises:
        BadOutput: they can't.
    """
    folders: dict[Path, set[str]] = {}
    for path in map(followed, paths):
        folders.setdefault(path.parent, set()).add(path.name)
    for folder, names in folders.items():
        check_length(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder, names, others=True)
            longest = folder / max(sorted(names), key=lambda name: len(os.fsencode(name)))
            check_length(longest)
            draft = draft_of(longest, os.getpid())  # permission bits don't say what root may do
            try:
                open(draft, "xb").close()
            finally:
                draft.unlink(missing_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise BadOutput(
                f"--output: {printable(folder)} can't be a folder: "
                "a file has its name, or its parent's"
            ) from None
        except OSError as error:
            reason = error.strerror or error
            raise BadOutput(f"--output: can't write to {printable(folder)}: {reason}") from None


def encode(image: Image.Image, path: Path, metadata: Mapping[str, Any] | None) -> bytes:
    """The content of an image's file: always the same for the same image and record.

    Raises:
        BadOutput: the record doesn't fit into a file of this format.
    """
    format = FORMATS[path.suffix.lower()]
    try:
        embedded = {} if metadata is None else embedding(metadata, format)
    except MetadataError as error:
        raise BadOutput(f"{printable(path)}: {error}") from None
    file = io.BytesIO()
    image.save(file, format, **OPTIONS[format], **embedded)
    return file.getvalue()


def check_room(path: Path, metadata: Callable[[], Mapping[str, Any]]) -> None:
    """Makes sure, before anything is sampled, that a record fits into a file of this format.

    Args:
        metadata: gives the record, which is asked for only where the format has a limit.

    Raises:
        BadOutput: it doesn't.
    """
    if FORMATS[path.suffix.lower()] == "JPEG":
        encode(Image.new("RGB", (1, 1)), path, metadata())


RESUMED = "the images before it are whole, and --resume goes on with this one"


def write(
    image: Image.Image,
    path: Path,
    metadata: Mapping[str, Any] | None,
    advice: str = RESUMED,
    swept: bool = False,
) -> None:
    """Writes an image beside its place and renames it into it.

    Args:
        image: grey or RGB.
        path: its suffix is the format. A symbolic link stays, and its file is written.
        metadata: its record, or None to write none.
        advice: what to say beside the reason if it can't be written.
        swept: whether `prepare` has been there: to list a folder of very many takes its time.

    Raises:
        BadOutput: the record doesn't fit into a file of this format.
        WriteFailed: the disk is full, or the folder is gone, or the like. What was at the path
            before is as it was.
    """
    # Pillow would not say why a write of its own failed.
    content = encode(image, path, metadata)
    place = followed(path)
    draft = draft_of(place, os.getpid())
    try:
        if not swept:
            sweep(place.parent, {place.name})
        try:
            with open(draft, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, place)
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise WriteFailed(f"can't write {printable(path)}: {reason}; {advice}") from None


def is_done(path: Path, record: Mapping[str, Any]) -> bool:
    """Whether a resumed run can leave out this image: its file is whole and of the same settings.

    Args:
        path: its file.
        record: how the run would make it.

    Raises:
        BadOutput: the file is whole, but made with other settings or nobody knows with which, or it
            can't be read.
    """
    remedy = "give another --output, or write over it without --resume"
    try:
        image = decode(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise BadOutput(f"can't read {printable(path)}: {error.strerror or error}") from None
    if image is None:
        return False
    try:
        found = difference(record_in(image) or {}, record)
    except (KeyError, TypeError, AttributeError):
        raise BadOutput(
            f"--resume: {printable(path)} does not say how it was made; {remedy}"
        ) from None
    if found is None:
        return True
    name, there, here = found
    raise BadOutput(
        f"--resume: {printable(path)} has other settings: {name} is {there} there and {here} here; "
        f"{remedy}"
    )
