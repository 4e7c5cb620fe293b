"""Local files, read within limits: a path can also lead to a pipe or a device without an end."""

import errno
import os
import stat
from pathlib import Path

FILE_LIMIT = 2**30  # bytes, of an ordinary file
STREAM_LIMIT = 2**26  # of what comes through a pipe or from an address


def too_long(limit: int) -> OSError:
    """Return the error of a file that is longer than its limit in bytes."""
    return OSError(errno.EFBIG, f"it is longer than {limit / 2**20:g} MiB")


def read_file(path: str | Path) -> bytes:
    """Return the content of an ordinary file or a pipe, such as a shell's `<(...)` names.

    Raises:
        OSError: it can't be opened or read, or is too long, a folder or a device.
        ValueError: there can't be such a path.
    """
    status = os.stat(path)  # before it is opened, which devices may notice
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        raise OSError(errno.ENOTSUP, "it is a device, not a file")
    limit = STREAM_LIMIT if stat.S_ISFIFO(status.st_mode) else FILE_LIMIT
    if status.st_size <= limit:
        with open(path, "rb") as file:
            content = file.read(limit + 1)  # of some that the kernel makes up, the size is 0
        if len(content) <= limit:
            return content
    raise too_long(limit)
