"""A lock between processes that dies with the process that holds it."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

POLL = 0.1  # seconds


def take(file: IO[bytes]) -> bool:
    """Locks an open file, unless another process has it: then False."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def still_there(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds the lock file `path`, and removes it in the end.

    Args:
        path: the lock file; it need not exist.
        on_wait: called once, if another process has the lock.

    Raises:
        OSError: the file can't be made, or its file system has no locks.
    """
    waited = False
    while True:
        with open(path, "ab") as file:
            if take(file):
                # A lock on a file that its last holder has just removed keeps nobody out.
                if not still_there(file, path):
                    continue
                try:
                    yield
                finally:
                    with suppress(OSError):  # Windows removes no file that is open
                        path.unlink()
                return
        if not waited:
            on_wait()
            waited = True
        time.sleep(POLL)
