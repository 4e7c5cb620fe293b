"""The names of very many images: known to differ, and made when they are needed."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from pathlib import Path
from string import Formatter

from ..shell.console import printable
from ..shell.paths import expand_user
from .names import BadOutput, bad_pattern, check_fields, check_name, paths

FEW = 1024  # images whose names are all looked at before the first is drawn
# A number that is filled up from the left, by zeros or spaces: a larger one gives a longer text, or
# one as long that comes later in the alphabet.
RISES = re.compile(r"(?:0[>=]|[-+ ]?)#?0?\d{0,2}[,_]?[bdoxX]?")


def with_prompt(pattern: str, prompt: str) -> str:
    """A sound pattern with a text in the place of {prompt}."""
    filled = ""
    for text, name, spec, _ in Formatter().parse(pattern):
        text += prompt if name == "prompt" else ""
        filled += text.replace("{", "{{").replace("}", "}}")
        if name not in (None, "prompt"):
            filled += f"{{{name}:{spec}}}"
    return filled


class Series:
    """The paths of the images of one order, by their numbers.

    Args:
        pattern, n, seed, first, prompt: as of `naming.paths`.

    Raises:
        BadOutput: the pattern is malformed, or its first or last name can't be.
    """

    def __init__(self, pattern: str, n: int, seed: int, first: int, prompt: str = "") -> None:
        check_fields(pattern)
        self.pattern = pattern
        self.numbers = range(first, first + n)
        self.seeds = seed - first
        self._filled = with_prompt(pattern, prompt)
        parts = list(Formatter().parse(self._filled))
        specs = [spec or "" for _, name, spec, _ in parts if name is not None]
        text = parts[0][0] if parts else ""
        self._tail = parts[-1][0] if parts and parts[-1][1] is None else ""
        self._base = text[: text.rfind("/") + 1]  # the folder that all have in common
        self._real = os.path.join(os.path.realpath(expand_user(self._base or ".")), "")
        self._folder = self._real_folder = ""  # the last that was looked at
        for number in (self.numbers[0], self.numbers[-1]):
            check_name(pattern, self.name(number))
        rest = self._rest(self.numbers[0])
        self.in_one_folder = "/" not in rest
        # So names rise with the numbers, by length and then alphabet, and no two are one.
        self.rises = (
            bool(specs)
            and all(map(RISES.fullmatch, specs))
            and os.path.normpath(rest) == rest
            and (bool(self._base) or not rest.startswith("~"))  # whose home differs
        )

    def name(self, number: int) -> str:
        """What the pattern makes of an image's number."""
        return self._filled.format(i=number, seed=self.seeds + number)

    def _rest(self, number: int) -> str:
        return self.name(number)[len(self._base) :]

    def path(self, number: int) -> Path:
        """Where an image goes.

        Raises:
            BadOutput: it can't have that name.
        """
        name = self.name(number)
        check_name(self.pattern, name)
        return expand_user(name)

    def real(self, number: int) -> str:
        """The real path of an image: another than its name says where a link is on the way."""
        rest = self._rest(number)
        if self.in_one_folder:
            return self._real + rest
        folder, _, name = rest.rpartition("/")
        if folder != self._folder:
            self._folder, self._real_folder = folder, os.path.realpath(self._real + folder)
        return os.path.join(self._real_folder, name)

    def is_plain(self, number: int, real: str) -> bool:
        """Whether no link is on the way to the image with this real path."""
        return real == self._real + self._rest(number)

    def _key(self, number: int) -> tuple[int, str]:
        """What rises, of a plain real path."""
        text = self._real + self._rest(number)
        return len(text), text

    def _from(self, key: tuple[int, str]) -> int | None:
        """The first number of a series that rises whose key is this or beyond."""
        place = bisect_left(self.numbers, key, key=self._key)
        return self.numbers[place] if place < len(self.numbers) else None

    def find(self, real: str) -> int | None:
        """The number of the image at this real path, None if it is none of a series that rises."""
        key = len(real), real
        number = self._from(key)
        return number if number is not None and self._key(number) == key else None

    def meets(self, other: Series) -> int | None:
        """The number of an image of this one that has the name of one of the other's, if any has.

        Both rise, and each leaps to where the other is: nearly always that is far.
        """
        if not (self._tail.endswith(other._tail) or other._tail.endswith(self._tail)):
            return None
        number: int | None = self.numbers[0]
        while number is not None:
            key = self._key(number)
            there = other._from(key)
            if there is None or other._key(there) == key:
                return None if there is None else number
            number = self._from(other._key(there))
        return None


class Taken:
    """The names that the images of a run have so far."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}  # by real path
        self._series: list[Series] = []

    def places(
        self, pattern: str, n: int, seed: int, first: int, prompt: str = ""
    ) -> list[Path] | Series:
        """Where the images of an order go. Of many it is a series, whose names `check` looks at.

        Args:
            pattern, n, seed, first, prompt: as of `naming.paths`.

        Raises:
            BadOutput: as `naming.paths`.
        """
        if n > FEW:
            series = Series(pattern, n, seed, first, prompt)
            if series.rises:
                self._add(series)
                return series
        if self._series:
            for number, path in enumerate(paths(pattern, n, seed, first, prompt=prompt), first):
                real = os.path.join(os.path.realpath(path.parent), path.name)
                self._look(pattern, number, path, real)
        return paths(pattern, n, seed, first, self._names, prompt)

    def _add(self, series: Series) -> None:
        for real, number in self._names.items():
            if (found := series.find(real)) is not None:
                raise clash(series.pattern, number, found, series.path(found))
        for other in self._series:
            if (found := series.meets(other)) is not None:
                there = other.find(series.real(found))
                raise clash(series.pattern, there or 0, found, series.path(found))
        self._series.append(series)

    def _look(self, pattern: str, number: int, path: Path, real: str) -> None:
        """Raises BadOutput where another image of a series has this real path."""
        for series in self._series:
            found = series.find(real)
            if found not in (None, number):
                raise clash(pattern, found or 0, number, path)

    def check(self, series: Series, number: int) -> Path:
        """Where an image of a series goes.

        Raises:
            BadOutput: it can't have its name, or links lead from that to another image's.
        """
        path = series.path(number)
        real = series.real(number)
        if (other := self._names.get(real, number)) != number:
            raise clash(series.pattern, other, number, path)
        if not series.is_plain(number, real):
            self._look(series.pattern, number, path, real)
            self._names[real] = number
        return path


def clash(pattern: str, one: int, other: int, path: Path) -> BadOutput:
    why = f"images {one} and {other} would both be {printable(path)}; put {{i}} or {{seed}} in it"
    return bad_pattern(pattern, why)
