"""Who is drawing which file at this moment, among the processes of this machine."""

import errno
import hashlib
import os
import struct
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ..images.output import followed
from ..shell.console import printable
from ..shell.errors import RunError

# The kernel's struct flock: (l_type, l_whence, l_start, l_len, l_pid), and the order of its parts.
LAYOUTS = {"linux": ("hhqqi0q", (0, 1, 2, 3, 4)), "darwin": ("qqihh", (3, 4, 0, 1, 2))}


class Claims:
    """The files that this process is drawing, and nobody else is to draw at the same time.

    Each is a byte of one file that all of a user's processes lock in, however far beyond its end:
    the kernel knows who has locked it and forgets that when the process is no more, however it
    ends. So nothing is left over, nor lies beside the images.

    Args:
        path: the file, by default in the folder of temporary files.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._held: list[int] = []  # their bytes
        self._kept: set[int] = set()
        self._folder: tuple[Path | None, bytes] = None, b""
        self._file = -1
        if os.name != "posix":
            return
        path = path or Path(tempfile.gettempdir(), f"v-diffusion-{os.getuid()}.lock")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file = os.open(path, flags, 0o600)
        except OSError:  # then nobody is told
            pass

    def take(self, paths: Iterable[Path], keep: bool = False) -> None:
        """Claims files, whose folders are there.

        Args:
            keep: to the end, and not only until `release`.

        Raises:
            RunError: another process is drawing one.
        """
        if self._file < 0:
            return
        for path in paths:
            try:
                byte = self._byte(path)
            except OSError:  # the folder has gone: who writes there will tell
                continue
            if not self._lock(byte):
                who = self._holder(byte)
                which = "another process" if who is None else f"process {who}"
                text = f"{printable(path)}: {which} is drawing it at this moment"
                raise RunError(f"{text}; let that end, or give another --output")
            if keep:
                self._kept.add(byte)
            self._held.append(byte)

    def release(self) -> None:
        """Gives up all claims that are not to be kept."""
        if self._file < 0:
            return
        import fcntl

        for byte in self._held:
            if byte not in self._kept:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)
        self._held.clear()

    def close(self) -> None:
        """Gives up all."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _byte(self, path: Path) -> int:
        """A file's number: nearly never that of another."""
        path = followed(path)
        if self._folder[0] != path.parent:
            status = os.stat(path.parent)
            self._folder = path.parent, f"{status.st_dev} {status.st_ino} ".encode()
        name = self._folder[1] + os.fsencode(path.name)
        return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") >> 2

    def _lock(self, byte: int) -> bool:
        """Whether this process has it now. Where nothing can be locked, all have it."""
        import fcntl

        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EAGAIN)
        return True

    def _holder(self, byte: int) -> int | None:
        """The process that has it, if the system tells."""
        import fcntl

        if sys.platform not in LAYOUTS:
            return None
        layout, order = LAYOUTS[sys.platform]
        values = dict(zip(order, (0,) * 5))
        values |= {0: fcntl.F_WRLCK, 1: os.SEEK_SET, 2: byte, 3: 1}
        packed = struct.pack(layout, *(values[part] for part in order))
        try:
            answer = struct.unpack(layout, fcntl.fcntl(self._file, fcntl.F_GETLK, packed))
        except OSError:
            return None
        found = dict(zip(order, answer))
        # It may have ended since, or be one that this process can't see, in another container.
        return found[4] if found[0] != fcntl.F_UNLCK and found[4] > 0 else None
