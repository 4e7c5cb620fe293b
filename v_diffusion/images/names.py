"""Names of image files: from the pattern of `--output` to the path of each image."""

import errno
import os
import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePath
from string import Formatter
from urllib.parse import unquote, urlsplit

from ..job.job import Job
from ..job.values import PROMPTS_FIRST
from ..shell.console import printable
from ..shell.errors import UserError
from ..shell.paths import expand_user

PATTERN = "out_{i:05}.png"
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
LONGEST_SIDES = {"JPEG": 65500, "WEBP": 16383}  # pixels, of the formats that have a limit
PREVIEW = ".preview.png"  # appended to an image's name
# Formats of a whole number that never give two numbers one text, as "0<3" would give 1 and 10.
# Two digits of width keep a mistyped one from filling the memory.
SPEC = re.compile(r"(0?[>=]|[^0-9A-Za-z/][<>=^])?[-+ ]?#?0?\d{0,2}[,_]?[bdoxX]?")
LONGEST_LABEL = 100  # bytes, of the 255 that file systems allow a name
NO_PROMPT = "no_prompt"


def bad_pattern(pattern: str, why: str, option: str = "--output") -> UserError:
    """Return the error that says why a name or a pattern of names can't be used."""
    return UserError(f"{option}: {printable(pattern)}: {why}")


def check_pattern(pattern: str, n: int) -> None:
    """Check the fields of a pattern for n images, before any of them has a name.

    Raises:
        UserError: a field or its format is unknown, or n > 1 and neither {i} nor {seed} tells the
            images apart.
    """
    try:
        fields = list(Formatter().parse(pattern))
    except ValueError:
        why = "unmatched brace; write {{ or }} for a literal one"
        raise bad_pattern(pattern, why) from None
    for _, name, spec, conversion in fields:
        if name is None or spec is None:  # text without a field
            continue
        if name == "prompt" and not (spec or conversion):
            continue
        if name == "prompt":
            raise bad_pattern(pattern, "{prompt} takes no format; write {prompt}")
        if name not in ("i", "seed"):
            why = f"there is no field {{{name}}}; use {{i}}, {{seed}} or {{prompt}}"
            raise bad_pattern(pattern, why)
        try:
            if conversion or not SPEC.fullmatch(spec):
                raise ValueError
            format(0, spec)
        except ValueError:
            tail = f"!{conversion}" * bool(conversion) + f":{spec}" * bool(spec)
            why = f"{tail!r} can't format a whole number; write {{{name}}} or {{{name}:05}}"
            raise bad_pattern(pattern, why) from None
    # Normalised, since the field of "{i}/../x.png" tells nothing apart.
    names = {name for _, name, _, _ in Formatter().parse(os.path.normpath(pattern))}
    if n > 1 and names.isdisjoint(("i", "seed")):
        why = f"all {n} images would have this name; put {{i}} or {{seed}} in it"
        raise bad_pattern(pattern, why)


def path_of(pattern: str, *, i: int, seed: int, prompt: str) -> Path:
    """Return where one image goes.

    Args:
        pattern: a path with the fields {i}, {seed} and {prompt}, which `check_pattern` accepts. The
            first two can have a format, as in {i:05}.
        i: the image's number in the run, from 0.
        seed: its own seed.
        prompt: the label of its prompts, as `label` returns it.

    Raises:
        UserError: no image can have the name.
    """
    name = pattern.format(i=i, seed=seed, prompt=prompt)
    check_name(pattern, name)
    return expand_user(name)


class Names:
    """The names of a run's images, so that no two orders write to one file.

    Within an order {i} or {seed} gives each image a name of its own. So an order is compared with
    the earlier ones alone, and its names are listed only when another order comes.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # of the earlier orders' images, by real path
        self._latest: Iterable[tuple[str, int]] = ()

    def add(self, pattern: str, *, n: int, first: int, seed: int, prompt: str) -> None:
        """Check the names of an order's images and remember them.

        Args:
            n: how many images there are; their numbers rise from `first`, their seeds from `seed`.

        Raises:
            UserError: the pattern is malformed, no image can have the name, or an image of an
                earlier order has it. Nothing is remembered then.
        """
        check_pattern(pattern, n)

        def path(k: int) -> Path:
            return path_of(pattern, i=first + k, seed=seed + k, prompt=prompt)

        self._numbers.update(self._latest)
        self._latest = ()
        for k in range(n if self._numbers else 1):
            other = self._numbers.get(os.path.realpath(path(k)))
            if other is not None:
                why = f"images {other} and {first + k} would both be {printable(path(k))}"
                raise bad_pattern(pattern, f"{why}; put {{i}} or {{seed}} in it")
        self._latest = ((os.path.realpath(path(k)), first + k) for k in range(n))


def check_name(pattern: str, name: str, option: str = "--output") -> None:
    """Check a name as far as it tells by itself that no image can have it.

    Raises:
        UserError: no image can.
    """

    def bad(why: str) -> UserError:
        return bad_pattern(pattern, why, option)

    if not name:
        raise bad(f"the name is empty; give one such as {PATTERN}")
    if "\0" in name:
        raise bad("no file name can have a NUL character; remove it")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise bad("it has a character that no file name can have; remove it") from None
    path = Path(name)
    if name.endswith("/"):
        raise bad(f"{printable(name)} is a folder; name a file in it: {path / PATTERN}")
    if path.name.lower() in FORMATS:
        raise bad(f"there is no name before {path.name}; give one such as {PATTERN}")
    if path.suffix.lower() not in FORMATS:
        *others, last = FORMATS
        prompt = f"; {PROMPTS_FIRST}" if option == "--grid" else ""
        why = f"the suffix names no image format; use {', '.join(others)} or {last}"
        raise bad(why + prompt)
    if path.name.endswith(PREVIEW):
        raise bad(f"names that end in {PREVIEW} are reserved for previews; give another name")


def check_sides(pattern: str, size: tuple[int, int], option: str = "--output") -> None:
    """Raise a UserError if the format that a name stands for has no pictures of such a size."""
    format = FORMATS.get(Path(pattern).suffix.lower(), "")
    if max(size) > (most := LONGEST_SIDES.get(format, max(size))):
        why = f"a {format} picture has at most {most} pixels a side; write a .png"
        raise bad_pattern(pattern, why, option)


def check_place(pattern: str, path: Path, option: str = "--output") -> None:
    """Raise a UserError if there is something at the path that no image may replace."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            why = f"{printable(path)} is a link that leads back to itself; remove it"
            raise bad_pattern(pattern, why, option) from None
    # Of os.path, which raises nothing for a name that is too long.
    if os.path.isdir(path):
        why = f"{printable(path)} is a folder; name a file in it: {path / PATTERN}"
        raise bad_pattern(pattern, why, option)
    if os.path.exists(path) and not os.path.isfile(path):
        why = f"{printable(path)} is not a regular file; give another name"
        raise bad_pattern(pattern, why, option)


def check_file(option: str, name: str) -> Path:
    """Return the path of an option that names one image.

    Raises:
        UserError: no image can be written there.
    """
    check_name(name, name, option)
    path = expand_user(name)
    check_place(name, path, option)
    return path


def identities(path: str | Path) -> frozenset[object]:
    """Return what a file is known by: two paths of one file have a member in common."""
    found: list[object] = [os.path.realpath(path)]
    with suppress(OSError, ValueError):  # it isn't there
        status = os.stat(path)
        found.append((status.st_dev, status.st_ino))
    return frozenset(found)


def all_identities(paths: Iterable[str | Path]) -> frozenset[object]:
    """Return what any of these files is known by."""
    return frozenset().union(*map(identities, paths))


def preview_of(path: Path) -> Path:
    """Return where an image is shown while it is drawn."""
    return path.with_name(path.name + PREVIEW)


def slug(text: str) -> str:
    """Return a text as letters, digits and single underscores, cut to `LONGEST_LABEL` bytes.

    A text with neither letters nor digits becomes the numbers of its characters.
    """
    plain = unicodedata.normalize("NFC", text)
    safe = re.sub(r"[\W_]+", "_", plain).strip("_")
    safe = safe or "_".join(f"{ord(c):x}" for c in plain)
    return safe.encode()[:LONGEST_LABEL].decode(errors="ignore").rstrip("_")


def stem_of_image(image: str) -> str:
    """Return the name of an image prompt's file, without anything secret in its address."""
    if "://" not in image:
        return PurePath(image).stem
    try:
        parts = urlsplit(image)
    except ValueError:  # malformed, which is told when it is opened
        return NO_PROMPT
    return PurePath(unquote(parts.path)).stem or str(parts.hostname)


def label(job: Job) -> str:
    """Return what stands for {prompt}: the texts, or without any the image prompts' names."""
    words = [prompt.text for prompt in job.prompts]
    words = words or [stem_of_image(prompt.text) for prompt in job.images]
    return slug("_".join(words)) if words else NO_PROMPT
