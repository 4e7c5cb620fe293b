"""Job files: one JSON object a line, or one prompt a line, read as the lines come."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import select
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, BinaryIO

from ..job.hints import doubts
from ..job.job import Job, merged
from ..job.script import CLIP_SAMPLE, SCRIPTS, not_of
from ..run.request import BadLine, Order
from ..shell.console import note, printable
from ..shell.program import MANY, UserError, whole_number
from . import seeds

PEEK = 4096  # bytes, in which a file that is no text has zeros
STDIN = "-"
IDLE = 0.05  # seconds without a line after which there are none at this moment
CHUNK = 1 << 16
LONGEST = 1 << 24  # bytes of a line
COUNT = whole_number(1, MANY)


def as_they_come(file: BinaryIO) -> Iterator[bytes | None]:
    """The lines of a file; of a pipe None too, whenever no line has come for a moment.

    Raises:
        UserError: a line doesn't end.
    """
    if is_regular(file):
        while line := file.readline(LONGEST + 1):
            check_length(line)
            yield line
        return
    # Past the buffer of the file, which would read ahead and hold up Ctrl-C.
    pipe, rest = file.fileno(), b""
    while True:
        # Elsewhere pipes can't be asked; there each line may wait for company.
        if os.name == "posix" and not select.select([pipe], [], [], IDLE)[0]:
            yield None
        part = os.read(pipe, CHUNK)
        if not part:
            break
        *lines, rest = (rest + part).split(b"\n")
        yield from lines
        check_length(rest)
    if rest:
        yield rest


def check_length(line: bytes) -> None:
    """Raises UserError for a line that nobody has written as a job."""
    if len(line) > LONGEST:
        raise UserError(f"--jobs: a line is longer than {LONGEST} bytes; name a file of jobs")


def is_endless(file: BinaryIO) -> bool:
    """Whether it is a device, other than a terminal and the one that holds nothing."""
    found = os.fstat(file.fileno())
    device = stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)
    return device and not file.isatty() and not os.path.samestat(found, os.stat(os.devnull))


def is_regular(file: BinaryIO) -> bool:
    """Whether it is an ordinary file, all of whose lines are there."""
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys are all different, with `_` for `-` in them.

    Raises:
        UserError: one is said twice; which of the two is meant?
    """
    found: dict[str, Any] = {}
    for key, value in pairs:
        name = key.replace("-", "_")
        if name in found:
            raise UserError(f"{key!r} is said twice; leave out one of them")
        found[name] = value
    return found


def options_of(text: str) -> dict[str, Any]:
    """The options by name that a line says: those of its JSON object, or its text as the prompt.

    Raises:
        UserError: it is a broken or another JSON object.
    """
    if text == "null" or text[0] in '["':
        raise UserError("no JSON object: a line is one, or a text prompt as it is, not in quotes")
    if not text.startswith("{"):
        return {"prompts": [text]}
    try:
        options: dict[str, Any] = json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        # Its own text counts lines, too, and there is but one.
        raise UserError(f"no JSON object: {error.msg}, column {error.colno}") from None
    except RecursionError:
        raise UserError("no JSON object: it is nested too deeply") from None
    except ValueError:  # Python takes no whole number of thousands of digits
        raise UserError("no JSON object: a number in it is too long") from None
    return options


def unknown_option(name: str, known: Sequence[str]) -> str:
    """What to say of a key that is no option, with the one that may be meant."""
    wrong, *there = (one.replace("_", "-") for one in (name, *known))
    meant = get_close_matches(wrong, there, 1)
    asks = f"; did you mean {meant[0]!r}?" if meant else ":"
    return f"no option {wrong!r} of a job{asks} there are {', '.join(there)}"


def order_of(options: Mapping[str, Any], line: str | None = None) -> Order:
    """The order of options by name: a job's, `n` and `output`, and the name of the script.

    Raises:
        UserError: there is no such job, or an option is none of a job's.
    """
    fields = {name: value for name, value in options.items() if value is not None}
    named = fields.get("script", CLIP_SAMPLE.name)
    if named not in SCRIPTS:
        raise UserError(f"no script {named!r}: there are {', '.join(SCRIPTS)}")
    script = SCRIPTS[named]
    n, output = fields.pop("n", 1), fields.pop("output", script.output)
    known = [field.name for field in dataclasses.fields(Job) if script.has(field.name)]
    if unknown := [name for name in fields if name not in (*known, "script")]:
        if unknown[0] in {field.name for field in dataclasses.fields(Job)}:
            raise UserError(not_of(unknown[0], script))
        raise UserError(unknown_option(unknown[0], [*known, "n", "output", "script"]))
    for name in ("model", "checkpoint", "clip_checkpoint", "clip", "method", "init"):
        if not isinstance(fields.get(name), (str, type(None))):
            raise UserError(f"{name.replace('_', '-')}: {fields[name]!r} is no text")
    if not isinstance(output, str):
        raise UserError(f"output: {output!r} is no text")
    drawn = script.has("seed") and seeds.is_random(fields.get("seed"))
    if drawn:
        fields["seed"] = seeds.draw()
    try:
        job = Job(**fields)
        order = Order(job, COUNT(str(n)), output, line, tuple(doubts(job, options)))
    except argparse.ArgumentTypeError as error:
        raise UserError(f"n: {error}") from None
    if drawn:
        note(f"{line}: seed: {job.seed}" if line else f"seed: {job.seed}")
    return order


def meant_for(given: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Of the command line's options those that a line's script has, which can be another."""
    script = SCRIPTS.get(str(said.get("script")))
    if script is None:
        return dict(given)
    lacking = {field.name for field in dataclasses.fields(Job) if not script.has(field.name)}
    lacking |= {"n"} if "seed" in lacking else set()  # so many would be the same
    return {name: value for name, value in given.items() if name not in lacking - {"script"}}


def read_line(line: bytes, given: Mapping[str, Any], name: str) -> Order | BadLine | None:
    """The order of a line, or None if it is empty.

    Args:
        given: options by name for what the line leaves out.
        name: which line it is, for messages.
    """
    try:
        text = line.decode("utf-8-sig").strip()
        if not text:
            return None
        said = options_of(text)
        return order_of(merged(meant_for(given, said), said), name)
    except UnicodeDecodeError:
        return BadLine(name, UserError("it is not in UTF-8"))
    except UserError as error:
        return BadLine(name, error)


def open_jobs(path: str, alone: bool = True) -> BinaryIO:
    """A job file for reading, or stdin.

    Args:
        alone: whether this process reads it alone. Several have to see the same lines.

    Raises:
        UserError: it can't be opened, or not by several.
    """
    if path == STDIN:
        file = None if sys.stdin is None else sys.stdin.buffer
    else:
        try:
            file = open(os.path.expanduser(path), "rb")
        except OSError as error:
            raise UserError(f"--jobs: {printable(path)}: {error.strerror}") from None
    if file is None:
        raise UserError("--jobs -: stdin is closed; name a file")
    if is_endless(file):
        file.close()
        raise UserError(f"--jobs: {printable(path)}: it is a device, not a file")
    if is_regular(file):
        if b"\0" in file.read(PEEK):
            file.close()
            raise UserError(
                f"--jobs: {printable(path)}: it is no text; a job file has a job a line"
            )
        file.seek(0)
    elif not alone:
        file.close()
        why = "several processes have to read the same lines; name an ordinary file"
        raise UserError(f"--jobs: {printable(path)}: {why}")
    return file


def read_orders(
    file: BinaryIO, path: str, given: Mapping[str, Any]
) -> Iterator[Order | BadLine | None]:
    """The orders of a job file's lines as they come; empty lines are passed over.

    Args:
        path: the file's, for messages.
        given: options by name for what a line leaves out.

    Returns:
        None among them says that there are no more at this moment.
    """
    name = "stdin" if path == STDIN else printable(path)
    number = 0
    with file:
        for line in as_they_come(file):
            if line is None:
                yield None
                continue
            number += 1
            order = read_line(line, given, f"{name}:{number}")
            if order is not None:
                yield order
