"""A program from its first line to its exit status: streams, signals, errors.

0 is success, 1 a failure while running, 2 a mistake of the user's, 130 Ctrl-C, 143 SIGTERM,
129 SIGHUP.
"""

import os
import signal
import sys
from collections.abc import Callable, MutableMapping, Sequence
from io import TextIOWrapper
from typing import NoReturn

from .console import leave, log_to_stderr, note, open_streams, require
from .errors import ProgramError

INTERRUPTED = 128 + signal.SIGINT
ENDS = ("SIGTERM", "SIGHUP")  # the latter not everywhere
MODULES = ("torch", "torchvision", "requests", "tqdm", "ftfy", "regex", "PIL")  # to draw at all
# GCC's OpenMP runtime, which PyTorch computes with on Linux, lets a thread that has nothing to do
# turn in a circle for some milliseconds, in case that work comes. Where another program wants the
# processor too, those that wait take it from those that work: everything is ten times as slow. So
# many rounds, some ten microseconds, are enough for what comes at once.
SPINS = "GOMP_SPINCOUNT"
ROUNDS = 2000


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let the threads of this process and of those that it starts wait less busily for work.

    It counts only before PyTorch is imported, and only where the user has not decided otherwise.
    """
    if SPINS not in environment and "OMP_WAIT_POLICY" not in environment:
        environment[SPINS] = str(ROUNDS)


def begin(program: str, modules: Sequence[str] = MODULES) -> None:
    """Start a program: its streams are open, Ctrl-C is quiet, messages go to stderr, and the
    modules that it needs are there.
    """
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


def leave_at_once(*_: object) -> NoReturn:
    """Handle Ctrl-C while nothing is open: no import can catch it or report it."""
    os._exit(INTERRUPTED)


def leave_at_last(*_: object) -> NoReturn:
    """Handle a second Ctrl-C, which doesn't wait for what the first one ends."""
    os._exit(INTERRUPTED)


def interrupt(*_: object) -> NoReturn:
    """Handle Ctrl-C while files are written: what is half done is cleaned up."""
    signal.signal(signal.SIGINT, leave_at_last)
    raise KeyboardInterrupt


def terminate(number: int, *_: object) -> NoReturn:
    """Handle SIGTERM and SIGHUP while files are written: the same clean-up, their own status."""
    # A closed terminal's comes from the kernel and from the shell; the second ends no clean-up.
    again = signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN
    signal.signal(number, again)
    sys.exit(128 + number)


def clean_up_on_interrupt() -> None:
    """Go over from `leave_at_once` to `interrupt`, if the program has set the former."""
    if signal.getsignal(signal.SIGINT) is leave_at_once:
        signal.signal(signal.SIGINT, interrupt)
        for name in ENDS:
            number = getattr(signal, name, None)
            # What is ignored stays so: nohup's SIGHUP.
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, terminate)


def exit_status(program: str, run: Callable[[], int | None]) -> int:
    """Run a program, report what went wrong in one line on stderr, and return the exit status.

    An exception that nobody expected comes through: its traceback is what a bug report needs.

    Args:
        program: its name, for the message.
        run: the program. It may return a status of its own.
    """
    try:
        return run() or 0
    except ProgramError as error:
        note(f"{program}: {error}")
        return error.status
    except BrokenPipeError:
        leave(sys.stdout)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException:
        # A Ctrl-C in the middle of a library's own code can come out as another exception.
        if signal.getsignal(signal.SIGINT) is leave_at_last:
            return INTERRUPTED
        raise
