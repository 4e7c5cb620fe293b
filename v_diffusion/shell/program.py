"""A program from its first line to its exit status: streams, signals, errors.

0 is success, 1 a failure while running, 2 a mistake of the user's, 130 Ctrl-C, 143 SIGTERM,
129 SIGHUP.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import NoReturn

from .console import leave, log_to_stderr, note, open_streams, require
from .errors import ProgramError

SIGHUP: int | None = getattr(signal, "SIGHUP", None)  # not everywhere
SIGNALS = [number for number in (signal.SIGINT, signal.SIGTERM, SIGHUP) if number is not None]
MODULES = ("torch", "torchvision", "requests", "tqdm", "ftfy", "regex", "PIL")  # to draw at all
# GCC's OpenMP runtime, which PyTorch computes with on Linux, lets idle threads spin for some
# milliseconds. Where another program wants the processor too, everything gets ten times as slow.
# So many rounds, some ten microseconds, are enough for work that comes at once.
SPINS = "GOMP_SPINCOUNT"
ROUNDS = 2000

# malloc.h of glibc
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let idle threads spin less, unless the user has decided, from before PyTorch's import on."""
    if SPINS not in environment and "OMP_WAIT_POLICY" not in environment:
        environment[SPINS] = str(ROUNDS)


def keep_freed_memory() -> None:
    """Make glibc keep what is freed for the next tensor; from then on, for the whole process.

    It would give each large tensor's memory back, and the kernel clear every page of the next: a
    third of a guided step of CC12M_1. What is kept is lost to others; the peak grows by a tenth.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def begin(program: str, modules: Sequence[str] = MODULES) -> None:
    """Start a program: streams are open, Ctrl-C is quiet, messages go to stderr."""
    open_streams()
    log_to_stderr()
    signal.signal(signal.SIGINT, leave_at_once)
    try:
        os.getcwd()
    except FileNotFoundError:
        note(f"{program}: the current folder is no longer there; go to another")
        sys.exit(2)
    wait_briefly()
    require(program, *modules)
    if os.name == "posix" and isinstance(sys.stdout, TextIOWrapper):
        # A path is bytes, and they are what a program that reads it can open.
        errors = sys.getfilesystemencodeerrors()
        sys.stdout.reconfigure(encoding=sys.getfilesystemencoding(), errors=errors)


def end(status: int) -> int:
    """End a program: return its exit status, and ignore Ctrl-C from here on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python's own end can't be interrupted quietly
    return status


def leave_at_once(number: int, *_: object) -> NoReturn:
    """Handle Ctrl-C while nothing is open: no import can catch it or report it."""
    os._exit(128 + number)


def leave_at_last(number: int, *_: object) -> None:
    """Handle a second signal, which doesn't wait for the clean-up after the first."""
    if number != SIGHUP:  # which the kernel and the shell both send
        os._exit(128 + number)


def clean_up(number: int, *_: object) -> NoReturn:
    """Handle a signal while files are written: what is half done is removed on the way out."""
    signal.signal(number, leave_at_last)
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def clean_up_on_interrupt() -> None:
    """Go over from `leave_at_once` to `clean_up`, if the program has set the former."""
    if signal.getsignal(signal.SIGINT) is leave_at_once:
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup's SIGHUP
                signal.signal(number, clean_up)


def exit_status(program: str, run: Callable[[], int | None]) -> int:
    """Run a program, say in one line on stderr what went wrong, and return the exit status."""
    try:
        return run() or 0
    except ProgramError as error:
        note(f"{program}: {error}")
        return error.status
    except BrokenPipeError:
        leave(sys.stdout)
        return 1
    except BaseException as error:
        # A signal in the middle of a library's own code can come out as any exception.
        for number in SIGNALS:
            if signal.getsignal(number) is leave_at_last:
                return 128 + number
        if isinstance(error, KeyboardInterrupt):
            return 128 + signal.SIGINT
        raise  # what nobody expected: a bug report needs its traceback
