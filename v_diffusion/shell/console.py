"""Output of the programs: paths on stdout, all else on stderr, in lines that a terminal can show.

Progress and warnings go to the logger `v_diffusion`, which a library user can silence or redirect.
A program shows them on stderr, after `log_to_stderr`.
"""

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import IO, Any, NoReturn, TextIO

from ..version import __version__
from .errors import OutputClosed

log = logging.getLogger("v_diffusion")
# What a terminal obeys instead of showing it: control characters, and what turns lines around.
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
ENCODED = re.compile(r"[^\x00-\x7f\udc80-\udcff]")  # but for the bytes of paths


class StderrHandler(logging.Handler):
    """Writes each message to stderr, at once."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


def log_to_stderr() -> None:
    """Show progress and warnings on stderr from now on; for programs, not for a library."""
    if not log.handlers:
        log.addHandler(StderrHandler())
        log.propagate = False
        log.setLevel(logging.INFO)


def is_quiet() -> bool:
    """Return whether somebody has silenced progress."""
    return log.level > logging.INFO


def escaped(text: str, characters: re.Pattern[str] = CONTROLS) -> str:
    """Return a text with the control characters in it as Python writes them in ASCII."""
    return characters.sub(lambda found: ascii(found[0])[1:-1], text)


def printable(text: object) -> str:
    """Return a path, an address or a name as a message has it: quoted if it is not printable."""
    plain = str(text)
    return plain if plain and plain.isprintable() else repr(plain)


def one_line(text: str) -> str:
    """Return somebody else's words as one line that a terminal may show."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return names in a row, no more than `most` of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, without the usage, and takes no abbreviated options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def _print_message(self, message: str, file: Any = None) -> None:
        text = message.removesuffix("\n")
        print_line(text) if file is sys.stdout else note(text)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{escaped(f'{self.prog}: {message}')}\n")


def add_version(parser: argparse._ActionsContainer) -> None:
    """Add the option that prints the version."""
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")


def write_line(text: str, file: TextIO) -> None:
    """Write a line to a stream, at once."""
    # In one call: print() makes two, between which another process can write to the same file.
    try:
        file.write(f"{text}\n")
    except UnicodeEncodeError:  # before anything of it is written
        file.write(f"{escaped(text, ENCODED)}\n")
    file.flush()


def note(text: str) -> None:
    """Write a line to stderr, at once. It is dropped where stderr is closed or full."""
    try:
        write_line(escaped(text), sys.stderr)
    except OSError:
        leave(sys.stderr)


def print_line(text: object) -> None:
    """Write a line to stdout, at once. Raises BrokenPipeError or OutputClosed."""
    try:
        write_line(str(text), sys.stdout)
    except BrokenPipeError:
        raise
    except OSError as error:
        leave(sys.stdout)
        raise OutputClosed(f"can't write to stdout: {error.strerror or error}") from None


def open_streams() -> None:
    """Open closed streams on nothing: a file would get their number, and what is written there."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, this one
            os.set_inheritable(null, True)
        if number and getattr(sys, name) is None:
            stream = open(number, "w", errors="backslashreplace", closefd=False)
            setattr(sys, name, stream)


def require(program: str, *modules: str) -> None:
    """End the program with one line if a module that it needs is not installed."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        note(
            f"{program}: {', '.join(missing)} not installed in {sys.executable}; run 'make sample' "
            "once and then '. .venv/bin/activate', or pip install -r requirements.txt"
        )
        sys.exit(2)


def leave(stream: IO[str]) -> None:
    """Let Python, which flushes once more at its exit, write stdout or stderr to nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
