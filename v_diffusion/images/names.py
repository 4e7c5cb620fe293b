"""Names of image files: from the pattern of `--output` to the path of each image."""

import os
import re
import stat
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePath
from string import Formatter
from urllib.parse import unquote

from ..job.job import Job
from ..job.values import PROMPTS_FIRST
from ..shell.addresses import without_secrets
from ..shell.console import printable
from ..shell.errors import UserError
from ..shell.paths import expand_user

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
FILM_FORMATS = {".png": "PNG", ".webp": "WEBP", ".gif": "GIF"}
PREVIEW = ".preview.png"  # appended to an image's name
FILM = ".film.png"  # the same
# Formats of a whole number that give no two numbers one text, nor one that fills the memory.
NUMBER = r"[+ ]?#?0?\d{0,2}[bdoxX]?"
SPECS = {"i": NUMBER, "seed": NUMBER, "prompt": ""}
NO_PROMPT = "no_prompt"


def bad_pattern(pattern: str, why: str, option: str = "--output") -> UserError:
    """Return the error that says why a name or a pattern of names can't be used."""
    return UserError(f"{option}: {printable(pattern)}: {why}")


def check_pattern(pattern: str, n: int, option: str = "--output") -> None:
    """Raise a UserError for a folder, an unknown field, or one name for n > 1 images."""
    if os.path.isdir(os.path.expanduser(pattern)):
        example = printable(os.path.join(pattern, "{i:05}.png"))
        raise bad_pattern(pattern, f"it is a folder; name a file in it, as in {example}", option)
    try:
        fields = list(Formatter().parse(pattern))
    except ValueError:
        why = "unmatched brace; write {{ or }} for a literal one"
        raise bad_pattern(pattern, why, option) from None
    for _, name, spec, conversion in fields:
        if name is None:  # text without a field
            continue
        if name not in SPECS:
            why = f"there is no field {{{name}}}; use {{i}}, {{seed}} or {{prompt}}"
            raise bad_pattern(pattern, why, option)
        if conversion or not re.fullmatch(SPECS[name], spec or "", re.ASCII):
            why = f"{{{name}}} can't have this format; write {{{name}}}"
            why += f" or {{{name}:05}}" * bool(SPECS[name])
            raise bad_pattern(pattern, why, option)
    # Normalised, since the field of "{i}/../x.png" tells nothing apart.
    names = {name for _, name, _, _ in Formatter().parse(os.path.normpath(pattern))}
    if n > 1 and names.isdisjoint(("i", "seed")):
        why = f"all {n} images would have this name; put {{i}} or {{seed}} in it"
        raise bad_pattern(pattern, why, option)


def path_of(pattern: str, option: str = "--output", *, i: int, seed: int, prompt: str) -> Path:
    """Return where an image or its film goes, or raise a UserError if none can have the name."""
    name = pattern.format(i=i, seed=seed, prompt=prompt)
    check_name(pattern, name, option)
    return expand_user(name)


class Names:
    """The names of a run's images, so that no two orders write to one file.

    Within an order {i} or {seed} tells images apart, so it is compared with earlier orders alone.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # of the earlier orders' images, by real path
        self._latest: Iterable[tuple[str, int]] = ()

    def add(
        self, pattern: str, option: str = "--output", *, n: int, first: int, seed: int, prompt: str
    ) -> None:
        """Check and remember the names of an order's images, or raise a UserError."""
        check_pattern(pattern, n, option)

        def path(k: int) -> Path:
            return path_of(pattern, option, i=first + k, seed=seed + k, prompt=prompt)

        self._numbers.update(self._latest)
        self._latest = ()
        for k in range(n if self._numbers else 1):
            other = self._numbers.get(os.path.realpath(path(k)))
            if other is not None:
                both = f"images {other} and {first + k}"
                both = "an image and its film" if other == first + k else both
                why = f"{both} would both be {printable(path(k))}"
                raise bad_pattern(pattern, f"{why}; put {{i}} or {{seed}} in it", option)
        self._latest = ((os.path.realpath(path(k)), first + k) for k in range(n))


def check_name(pattern: str, name: str, option: str = "--output") -> None:
    """Raise a UserError if a name tells by itself that no image can have it."""
    if "\0" in name or re.search("[\ud800-\udc7f\udd00-\udfff]", name):
        why = "it has a character that no file name can have; remove it"
        raise bad_pattern(pattern, why, option)
    suffix = os.path.splitext(name)[1].lower()  # none of "folder.png/" and ".png"
    formats = FILM_FORMATS if option == "--film" else FORMATS
    if suffix not in formats:
        *others, last = formats
        prompt = f"; {PROMPTS_FIRST}" if option in ("--grid", "--film") and not suffix else ""
        why = f"the suffix names no image format; use {', '.join(others)} or {last}"
        raise bad_pattern(pattern, why + prompt, option)
    if name.lower().endswith(PREVIEW):
        why = f"names that end in {PREVIEW} are reserved for previews; give another name"
        raise bad_pattern(pattern, why, option)


def check_place(path: Path, option: str = "--output") -> None:
    """Raise a UserError if no image can be written at a path."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return
        why = "it is not a regular file"
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:  # too long a name, a link to itself
        why = f"it can't be used: {error.strerror}"
    raise bad_pattern(str(path), f"{why}; give another name", option)


def check_file(option: str, name: str) -> Path:
    """Return the path of an option that names one image. Raise a UserError if none can be there."""
    check_name(name, name, option)
    path = expand_user(name)
    check_place(path, option)
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
    """Return a text as letters, digits and single underscores, cut to 100 bytes.

    A text with neither letters nor digits becomes the numbers of its characters.
    """
    plain = unicodedata.normalize("NFC", text)
    safe = re.sub(r"[\W_]+", "_", plain).strip("_") or "_".join(f"{ord(c):x}" for c in plain)
    return safe.encode()[:100].decode(errors="ignore").rstrip("_")


def label(job: Job) -> str:
    """Return what stands for {prompt}: the texts, or without any the image prompts' names."""
    words = [prompt.text for prompt in job.prompts]
    for image in () if words else job.images:
        path = without_secrets(image.text)
        if "://" in path:
            path = unquote(re.sub("[?#].*", "", path))
        words.append(PurePath(path).stem)
    return slug("_".join(words)) if words else NO_PROMPT
