"""From the pattern of `--output` to the images' paths."""

import errno
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from string import Formatter

from ..shell.console import printable
from ..shell.errors import RunError, UserError
from ..shell.paths import expand_user

PATTERN = "out_{i:05}.png"
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
# What to say where an option that can stand alone was given what looks like a prompt.
PROMPTS_FIRST = "a prompt stands before the options, or behind --"
LONGEST_SIDES = {"JPEG": 65500, "WEBP": 16383}  # pixels, of the formats that have a limit
PREVIEW = ".preview.png"  # behind an image's name
# What a whole number can have after its colon. Two digits of width are enough, and no more keep a
# mistyped one from filling the memory.
SPEC = re.compile(r"(.?[<>=^])?[-+ ]?#?0?\d{0,2}[,_]?[bdoxX]?")


class OutputError(Exception):
    """An image's file can't be had or used. Its text is the whole message, one line."""


class BadOutput(OutputError, UserError):
    """What the user asked for can't be done: known before anything is sampled."""


class WriteFailed(OutputError, RunError):
    """A file couldn't be written while running."""


def bad_pattern(pattern: str, why: str, option: str = "--output") -> BadOutput:
    return BadOutput(f"{option}: {printable(pattern)}: {why}")


def check_fields(pattern: str) -> None:
    """Raises BadOutput unless the pattern has `paths`' fields alone, with sound formats."""
    try:
        fields = list(Formatter().parse(pattern))
    except ValueError:
        raise bad_pattern(
            pattern, "a brace has no counterpart; for a brace itself write {{ or }}"
        ) from None
    for _, name, spec, conversion in fields:
        if name is None or spec is None:  # text and no field
            continue
        if name == "prompt" and not (spec or conversion):
            continue
        if name not in ("i", "seed"):
            none = f"there is no field {{{name}}}, only {{i}}, {{seed}} and {{prompt}}"
            raise bad_pattern(pattern, "{prompt} has no formats" if name == "prompt" else none)
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


def check_name(pattern: str, name: str, option: str = "--output") -> None:
    """Raises BadOutput unless an image can have this name, as far as the name itself tells."""

    def bad(why: str) -> BadOutput:
        return bad_pattern(pattern, why, option)

    if not name:
        raise bad("the name is empty")
    if "\0" in name:
        raise bad("there is a NUL character in it")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise bad("there is a character in it that no file's name can have") from None
    path = Path(name)
    if name.endswith("/"):
        raise bad(f"{printable(name)} is a folder; name the files in it: {path / PATTERN}")
    if path.name.lower() in FORMATS:
        raise bad(f"the name before {path.name} is empty")
    if path.suffix.lower() not in FORMATS:
        prompt = f"; {PROMPTS_FIRST}" if option == "--grid" else ""
        raise bad(f"its end says no format; there are {', '.join(FORMATS)}{prompt}")
    if path.name.endswith(PREVIEW):
        raise bad(f"names that end in {PREVIEW} are those of previews; give another name")


def check_sides(pattern: str, size: tuple[int, int], option: str = "--output") -> None:
    """Raises BadOutput where the format of a name has no pictures of such a size."""
    format = FORMATS.get(Path(pattern).suffix.lower(), "")
    if max(size) > (most := LONGEST_SIDES.get(format, max(size))):
        why = f"a {format} picture has at most {most} pixels a side; write a .png"
        raise bad_pattern(pattern, why, option)


def check_place(pattern: str, path: Path, option: str = "--output") -> None:
    """Raises BadOutput where something is at the path that no image may be written over."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            why = f"{printable(path)} is a link that leads back to itself; remove it"
            raise bad_pattern(pattern, why, option) from None
    # Of os.path, whose answers about a name that is too long are no exceptions.
    if os.path.isdir(path):
        why = f"{printable(path)} is a folder; name the files in it: {path / PATTERN}"
        raise bad_pattern(pattern, why, option)
    if os.path.exists(path) and not os.path.isfile(path):
        raise bad_pattern(pattern, f"{printable(path)} is no ordinary file", option)


def identities(path: str | Path) -> frozenset[object]:
    """What a file is known by, under whatever name: two paths of one file have one in common."""
    found: list[object] = [os.path.realpath(path)]
    with suppress(OSError, ValueError):  # it isn't there
        status = os.stat(path)
        found.append((status.st_dev, status.st_ino))
    return frozenset(found)


def all_identities(paths: Iterable[str | Path]) -> frozenset[object]:
    """What any of these files is known by."""
    return frozenset().union(*map(identities, paths))


def check_file(option: str, name: str) -> Path:
    """The path of an option that names one image.

    Raises:
        BadOutput: no image can be written under this name.
    """
    check_name(name, name, option)
    path = expand_user(name)
    check_place(name, path, option)
    return path


def preview_of(path: Path) -> Path:
    """Where an image is to be seen while it is drawn."""
    return path.with_name(path.name + PREVIEW)


def paths(
    pattern: str,
    n: int,
    seed: int,
    first: int = 0,
    taken: dict[str, int] | None = None,
    prompt: str = "",
) -> list[Path]:
    """Where the images go: [n].

    Args:
        pattern: a path with the fields {i}, which counts the images of a run, {seed} and {prompt}.
            The former two can have a format, as in {i:05}.
        n: the number of images.
        seed: the first image's seed; the others have the seeds after it.
        first: the first image's number.
        taken: the real paths of the run's images before these, and their numbers; these are added.
        prompt: what stands for {prompt}.

    Raises:
        BadOutput: the pattern is malformed, it names a folder or no format, or two images would be
            one file. Nothing is added then.
    """
    check_fields(pattern)
    taken = {} if taken is None else taken
    found: dict[str, int] = {}
    folders: dict[Path, str] = {}
    result = []
    for i in range(first, first + n):
        name = pattern.format(i=i, seed=seed + i - first, prompt=prompt)
        check_name(pattern, name)
        path = expand_user(name)
        if path.parent not in folders:
            folders[path.parent] = os.path.realpath(path.parent)
        real = os.path.join(folders[path.parent], path.name)
        other = taken.get(real, found.setdefault(real, i))
        if other != i:
            raise bad_pattern(
                pattern,
                f"images {other} and {i} would both be {printable(path)}; "
                "put {i} or {seed} in it",
            )
        result.append(path)
    taken |= found
    return result
