"""What every program of this house says on a console, and how."""

import argparse
import os
import re
import sys
from importlib.util import find_spec
from typing import IO, Any, NoReturn, TextIO

from ..version import __version__

# What a terminal obeys instead of showing it: control characters, and what turns lines around.
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def escaped(text: str) -> str:
    """A text with the control characters in it as Python writes them."""
    return CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the command in one line, without the usage.

    Raises:
        BrokenPipeError, OutputClosed: as `say`, of what there is to say on stdout.
    """

    def _print_message(self, message: str, file: Any = None) -> None:
        said = message.removesuffix("\n")
        print_line(said) if file is sys.stdout else note(said)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{escaped(f'{self.prog}: {message}')}\n")


def add_version(parser: argparse._ActionsContainer) -> None:
    """The option that says the version."""
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")


class OutputClosed(Exception):
    """What a program has to say on stdout can't be written there. Its text is one line."""


class Voice:
    """How much a program says beside what has to be said."""

    quiet = False


def set_quiet(quiet: bool) -> None:
    """Leaves out from now on what is no path, warning or error, or goes back to saying it."""
    Voice.quiet = quiet


class _Log:
    def warning(self, text: str) -> None:
        note(text)

    def error(self, text: str) -> None:
        note(text)

    def info(self, text: str) -> None:
        mention(text)


log = _Log()


def is_quiet() -> bool:
    return Voice.quiet


def carried(text: str, file: TextIO) -> str:
    """A text with the characters that a stream's encoding lacks as Python writes them. The bytes of
    a path stay as they are.
    """

    def carry(character: str) -> str:
        try:
            character.encode(file.encoding, file.errors or "strict")
        except UnicodeEncodeError:
            return character.encode("ascii", "backslashreplace").decode()
        return character

    return "".join(map(carry, text))


def write_line(text: str, file: TextIO | None) -> None:
    # In one call: print() makes two, between which another process can write to the same file.
    if file is not None:  # closed by who started the program
        try:
            file.write(f"{text}\n")
        except UnicodeEncodeError:  # before anything of it is written
            file.write(f"{carried(text, file)}\n")
        file.flush()


def open_streams() -> None:
    """Opens stdin, stdout and stderr on nothing where who started the program has closed them.

    The first thing that a program does: a file that is opened while they are closed gets the number
    of one of them, and what a library says there goes into the file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, this one
            os.set_inheritable(null, True)
        # A stdin that is None tells who reads it that there is none.
        if number and getattr(sys, name) is None:
            stream = open(number, "w", errors="backslashreplace", closefd=False)
            setattr(sys, name, stream)


def note(text: str) -> None:
    """Says a line on stderr, at once. Where nobody can hear it, it is left unsaid."""
    try:
        write_line(escaped(text), sys.stderr)
    except OSError:
        leave(sys.stderr)


def mention(text: str) -> None:
    """Says on stderr how far the program is, unless it was told to be quiet."""
    if not Voice.quiet:
        note(text)


def print_line(text: object) -> None:
    """Says a line on stdout, at once.

    Raises:
        BrokenPipeError: nobody reads it any more.
        OutputClosed: the disk is full, or the like.
    """
    try:
        write_line(str(text), sys.stdout)
    except BrokenPipeError:
        raise
    except OSError as error:
        leave(sys.stdout)
        raise OutputClosed(f"can't write to stdout: {error.strerror or error}") from None


def require(program: str, *modules: str) -> None:
    """Ends the program with one line if a module that it needs is not installed."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        note(
            f"{program}: {', '.join(missing)} not installed in {sys.executable}; run 'make sample' "
            "once and then '. .venv/bin/activate', or pip install -r requirements.txt"
        )
        sys.exit(2)


def printable(text: object) -> str:
    """A path, an address or a name as a message has it: quoted if a terminal would not print it."""
    plain = str(text)
    return plain if plain and plain.isprintable() else repr(plain)


def one_line(text: str) -> str:
    """Somebody else's words as one line that a terminal may show."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def leave(stream: IO[str]) -> None:
    """Lets Python, which flushes once more at its exit, write stdout or stderr to nowhere.

    For a program whose reader has read enough, `... | head`, or whose stdout is a full disk.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
