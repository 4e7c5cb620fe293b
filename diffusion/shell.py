"""How the programs talk to a shell: numbers in range, one line for a mistake, exit statuses.

0 is success, 1 a failure while running, 2 a mistake of the user's, 130 Ctrl-C.
"""

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT
MANY = 2**63 - 1  # the upper end of a number that has no limit of ours


class UserError(Exception):
    """A mistake of the person at the shell: what is wrong and what to do, in one line."""


class RunError(Exception):
    """A failure while running: what went wrong and what would help, in one line."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the command in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: whole numbers from low to high."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            limits = f"from {low} to {high}" if high != MANY else f"of at least {low}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {limits}")
        return value

    return parse


def number(low: float = -math.inf, high: float = math.inf) -> Callable[[str], float]:
    """An argparse type: finite numbers from low to high."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and low <= value <= high):
            limits = f"number from {low:g} to {high:g}" if math.isfinite(high) else "finite number"
            raise argparse.ArgumentTypeError(f"{text!r} is not a {limits}")
        return value

    return parse


def require(program: str, *modules: str) -> None:
    """Ends the program with one line if a module that it needs is not installed."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        note(
            f"{program}: {', '.join(missing)} not installed in {sys.executable}; run 'make sample' "
            "once and then '. .venv/bin/activate', or pip install -r requirements.txt"
        )
        sys.exit(2)


def note(message: str) -> None:
    """Says something on stderr, past a progress bar if there is one."""
    print(message, file=sys.stderr, flush=True)


def leave_at_once(*_: object) -> NoReturn:
    """A handler of Ctrl-C for while nothing is open: no import can catch it or report it."""
    os._exit(INTERRUPTED)


def leave_at_last(*_: object) -> NoReturn:
    """The handler of a second Ctrl-C, which doesn't wait for what the first one ends."""
    os._exit(INTERRUPTED)


def interrupt(*_: object) -> NoReturn:
    """A handler of Ctrl-C for while files are written: what is half done is cleaned up."""
    signal.signal(signal.SIGINT, leave_at_last)
    raise KeyboardInterrupt


def clean_up_on_interrupt() -> None:
    """Goes over from `leave_at_once` to `interrupt`, if the program has set the former."""
    if signal.getsignal(signal.SIGINT) is leave_at_once:
        signal.signal(signal.SIGINT, interrupt)


def exit_status(program: str, run: Callable[[], None]) -> int:
    """Runs the program, tells what went wrong in one line on stderr, and gives the exit status.

    An exception that nobody expected comes through: its traceback is what a bug report needs.
    """
    try:
        run()
        sys.stdout.flush()
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `... | head` has read enough; Python flushes once more at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException:
        # A Ctrl-C in the middle of a library's own code can come out as another exception.
        if signal.getsignal(signal.SIGINT) is leave_at_last:
            return INTERRUPTED
        raise
    return 0
