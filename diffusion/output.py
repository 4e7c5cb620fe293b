"""Where the images go: their paths, their files, and which of them are there already."""

import io
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from string import Formatter
from typing import Any

from PIL import Image

from .metadata import MetadataError, decode, difference, embedding, record_in
from .shell import RunError, UserError

PATTERN = "out_{i:05}.png"
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
OPTIONS = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}
# What a whole number can have after its colon. Two digits of width are enough, and no more keep a
# mistyped one from filling the memory.
SPEC = re.compile(r"(.?[<>=^])?[-+ ]?#?0?\d{0,2}[,_]?[bdoxX]?")


class OutputError(Exception):
    """An image's file can't be had or used. Its text is the whole message, one line."""


class BadOutput(OutputError, UserError):
    """What the user asked for can't be done: known before anything is sampled."""


class WriteFailed(OutputError, RunError):
    """A file couldn't be written while running."""


def shown(text: str | Path) -> str:
    text = str(text)
    return text if text and text.isprintable() else repr(text)


def bad_pattern(pattern: str, why: str) -> BadOutput:
    return BadOutput(f"--output: {shown(pattern)}: {why}")


def check_fields(pattern: str) -> None:
    """Raises BadOutput unless the pattern has no fields but {i} and {seed}, with sound formats."""
    try:
        fields = list(Formatter().parse(pattern))
    except ValueError:
        raise bad_pattern(
            pattern, "a brace has no counterpart; for a brace itself write {{ or }}"
        ) from None
    for _, name, spec, conversion in fields:
        if name is None:
            continue
        if name not in ("i", "seed"):
            raise bad_pattern(pattern, f"there is no field {{{name}}}, only {{i}} and {{seed}}")
        if conversion or not SPEC.fullmatch(spec):
            tail = f"!{conversion}" * bool(conversion) + f":{spec}" * bool(spec)
            raise bad_pattern(
                pattern,
                f"{tail!r} is no format of a whole number; write {{{name}}} or {{{name}:05}}",
            )
        try:
            format(0, spec)
        except ValueError as error:
            raise bad_pattern(pattern, f"{{{name}:{spec}}}: {str(error).rstrip('.')}") from None


def check_name(pattern: str, name: str) -> None:
    """Raises BadOutput unless an image can be written under this name."""
    if not name:
        raise bad_pattern(pattern, "the name is empty")
    if "\0" in name:
        raise bad_pattern(pattern, "there is a NUL character in it")
    path = Path(name)
    # Of os.path, whose answers about a name that is too long are no exceptions.
    if os.path.isdir(path) or name.endswith("/"):
        raise bad_pattern(
            pattern, f"{shown(name)} is a folder; name the files in it: {path / PATTERN}"
        )
    if os.path.exists(path) and not os.path.isfile(path):
        raise bad_pattern(pattern, f"{shown(name)} is no ordinary file")
    if path.name.lower() in FORMATS:
        raise bad_pattern(pattern, f"the name before {path.name} is empty")
    if path.suffix.lower() not in FORMATS:
        raise bad_pattern(pattern, f"its end says no format; there are {', '.join(FORMATS)}")


def paths(pattern: str, n: int, seed: int) -> list[Path]:
    """Where the images go: [n].

    Args:
        pattern: a path with the fields {i}, which counts from 0, and {seed}. Either can have a
            format, as in {i:05}.
        n: the number of images.
        seed: the first image's seed; image i has seed + i.

    Raises:
        BadOutput: the pattern is malformed, it names a folder or no format, or two images would be
            one file.
    """
    check_fields(pattern)
    found: dict[str, int] = {}
    folders: dict[Path, str] = {}
    result = []
    for i in range(n):
        name = pattern.format(i=i, seed=seed + i)
        check_name(pattern, name)
        path = Path(name)
        if path.parent not in folders:
            folders[path.parent] = os.path.realpath(path.parent)
        first = found.setdefault(os.path.join(folders[path.parent], path.name), i)
        if first != i:
            raise bad_pattern(
                pattern,
                f"images {first} and {i} would both be {shown(path)}; put {{i}} or {{seed}} in it",
            )
        result.append(path)
    return result


def draft_of(path: Path, pid: int) -> Path:
    """Where a process writes a file before it gets its name."""
    return path.with_name(f".{path.name}.{pid}.partial")


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


def sweep(folder: Path, names: Collection[str]) -> None:
    """Removes the drafts that killed processes left in a folder of files of these names.

    Raises:
        OSError: the folder can't be listed.
    """
    for entry in os.listdir(folder):
        draft = re.fullmatch(r"\.(.+)\.(\d+)\.partial", entry, re.DOTALL)
        if draft is None or draft[1] not in names:
            continue
        pid = int(draft[2])
        if pid == os.getpid() or not alive(pid):
            with suppress(OSError):  # another process may have been faster
                os.unlink(folder / entry)


def prepare(paths: Iterable[Path]) -> None:
    """Makes the folders of these files and tries whether files can be written there.

    Raises:
        BadOutput: they can't.
    """
    folders: dict[Path, set[str]] = {}
    for path in paths:
        folders.setdefault(path.parent, set()).add(path.name)
    for folder, names in folders.items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder, names)
            # The longest name may be too long, and permission bits don't say what root may do.
            draft = draft_of(
                folder / max(names, key=lambda name: len(os.fsencode(name))), os.getpid()
            )
            try:
                open(draft, "xb").close()
            finally:
                draft.unlink(missing_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise BadOutput(
                f"--output: {shown(folder)} can't be a folder: a file has its name, or its parent's"
            ) from None
        except OSError as error:
            reason = error.strerror or error
            raise BadOutput(f"--output: can't write to {shown(folder)}: {reason}") from None


def encode(image: Image.Image, path: Path, metadata: Mapping[str, Any] | None) -> bytes:
    """The content of an image's file: always the same for the same image and record.

    Raises:
        BadOutput: the record doesn't fit into a file of this format.
    """
    format = FORMATS[path.suffix.lower()]
    try:
        embedded = {} if metadata is None else embedding(metadata, format)
    except MetadataError as error:
        raise BadOutput(f"{shown(path)}: {error}") from None
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


def write(image: Image.Image, path: Path, metadata: Mapping[str, Any] | None) -> None:
    """Writes an image beside its place and renames it into it.

    Args:
        image: grey or RGB.
        path: its suffix is the format.
        metadata: its record, or None to write none.

    Raises:
        BadOutput: the record doesn't fit into a file of this format.
        WriteFailed: the disk is full, or the folder is gone, or the like. What was at the path
            before is as it was.
    """
    # Pillow would not say why a write of its own failed.
    content = encode(image, path, metadata)
    draft = draft_of(path, os.getpid())
    try:
        sweep(path.parent, {path.name})
        try:
            with open(draft, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise WriteFailed(
            f"can't write {shown(path)}: {reason}; the images before it are whole, "
            "and --resume goes on with this one"
        ) from None


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
        raise BadOutput(f"can't read {shown(path)}: {error.strerror or error}") from None
    if image is None:
        return False
    try:
        found = difference(record_in(image), record)
    except (KeyError, TypeError, AttributeError):
        raise BadOutput(f"--resume: {shown(path)} does not say how it was made; {remedy}") from None
    if found is None:
        return True
    name, there, here = found
    raise BadOutput(
        f"--resume: {shown(path)} has other settings: {name} is {there} there and {here} here; "
        f"{remedy}"
    )
