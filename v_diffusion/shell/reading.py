"""Local files, read within limits: a path can also lead to a pipe or a device without an end."""

import errno
import os
import select
import stat
import time
from pathlib import Path

FILE_LIMIT = 2**30  # bytes, of an ordinary file
PIPE_LIMIT = 64 * 2**20
PIPE_SECONDS = 120.0
CHUNK = 1 << 16


def size_of(limit: int) -> str:
    """Return a limit of bytes in words."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if limit >= size:
            return f"{limit / size:g} {unit}"
    return f"{limit} bytes"


def too_long(limit: int) -> OSError:
    """Return the error of a file that is longer than its limit."""
    return OSError(errno.EFBIG, f"it is longer than {size_of(limit)}")


def read_pipe(pipe: int, limit: int, seconds: float) -> bytes:
    """Return all that comes through a non-blocking pipe, from its first writer to its last.

    Raises:
        OSError: it is too long or too slow.
    """
    content = bytearray()
    end = time.monotonic() + seconds
    while True:
        # Until somebody has opened its other end, and until there is something to read or no more.
        if not select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
            raise TimeoutError(errno.ETIMEDOUT, f"it has not come within {seconds:g} s")
        part = os.read(pipe, CHUNK)
        if not part:
            return bytes(content)
        content += part
        if len(content) > limit:
            raise too_long(limit)


def read_file(
    path: str | Path,
    limit: int = FILE_LIMIT,
    pipe_limit: int = PIPE_LIMIT,
    seconds: float = PIPE_SECONDS,
) -> bytes:
    """Return the content of an ordinary file or a pipe, such as a shell's `<(...)` names.

    Args:
        limit, pipe_limit: how many bytes there may be.
        seconds: how long a pipe may take.

    Raises:
        OSError: it can't be opened or read, or is too long, too slow, a folder or a device.
        ValueError: there can't be such a path.
    """
    kind = os.stat(path).st_mode  # before it is opened, which devices may notice
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
        raise OSError(errno.ENOTSUP, "it is a device, not a file")
    if stat.S_ISFIFO(kind) and hasattr(os, "O_NONBLOCK"):
        pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return read_pipe(pipe, pipe_limit, seconds)
        finally:
            os.close(pipe)
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise too_long(limit)
        content = file.read(limit + 1)  # of some that the kernel makes up, the size is 0
    if len(content) > limit:
        raise too_long(limit)
    return content
