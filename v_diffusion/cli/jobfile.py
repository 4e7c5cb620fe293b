"""Job files: one JSON object or one prompt a line, read as the lines come."""

import json
import os
import select
import stat
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from ..job.job import with_changes
from ..job.options import line_keys
from ..job.script import SCRIPTS
from ..run.ranks import this_rank
from ..run.request import BadLine, Order
from ..shell.console import printable
from ..shell.errors import UserError
from .orders import order_of

STDIN = "-"
PEEK = 4096  # bytes, in which a file that isn't text has zeros
IDLE = 0.05  # seconds without a line after which no more are awaited for now
CHUNK = 1 << 16


def as_they_come(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield the lines of a file; of a pipe also None, whenever no line has come for a moment."""
    # Not through the file's buffer, which would read ahead and hold up Ctrl-C.
    number, rest = file.fileno(), b""
    while True:
        # Elsewhere pipes can't be asked; there each line may have to wait for the next.
        if os.name == "posix" and not select.select([number], [], [], IDLE)[0]:
            yield None
        part = os.read(number, CHUNK)
        if not part:
            break
        *lines, rest = (rest + part).split(b"\n")
        yield from lines
    yield rest


def options_of(text: str) -> dict[str, Any]:
    """Return the options of a line by name: those of its JSON object, or its text as the prompt."""
    if not text.startswith(("{", "[", '"')):
        return {"prompts": [text]}
    try:
        options = json.loads(text)
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise UserError("not a JSON object; mend it, or write a prompt without quotes")
    return {key.replace("-", "_"): value for key, value in options.items()}


def read_line(line: bytes, given: Mapping[str, Any], name: str) -> Order | BadLine:
    """Return the order of a line and of the options that it leaves out."""
    try:
        options = options_of(line.decode("utf-8-sig").strip())
        script = SCRIPTS.get(str(options.get("script")))
        if script is not None:  # it may lack options of the command line's script
            given = {key: given[key] for key in line_keys(script) if key in given}
        return order_of(with_changes(given, options), name)
    except UnicodeDecodeError:
        return BadLine(name, UserError("not UTF-8 text; save the file in UTF-8"))
    except UserError as error:
        return BadLine(name, error)


def open_jobs(path: str) -> BinaryIO:
    """Return a job file for reading, or stdin."""
    stdin = path == STDIN
    try:
        file = open(0 if stdin else os.path.expanduser(path), "rb", 0, closefd=not stdin)
    except OSError as error:
        raise UserError(f"--jobs: {printable(path)}: {error.strerror}") from None
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        if b"\0" in file.read(PEEK):
            file.close()
            raise UserError(f"--jobs: {printable(path)} is not a text file; give one job a line")
        file.seek(0)
    elif this_rank().of > 1:
        file.close()
        why = "several processes have to read the same lines; give an ordinary file"
        raise UserError(f"--jobs: {printable(path)}: {why}")
    return file


def read_orders(
    file: BinaryIO, path: str, given: Mapping[str, Any]
) -> Iterator[Order | BadLine | None]:
    """Yield the orders of a job file's lines as they come; None: no line has come for a moment."""
    name = "stdin" if path == STDIN else printable(path)
    number = 0
    with file:
        for line in as_they_come(file):
            if line is None:
                yield None
                continue
            number += 1
            if line.strip():
                yield read_line(line, given, f"{name}:{number}")
