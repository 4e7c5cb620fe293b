"""Files written whole or not at all: to a draft beside the target, which then gets its name.

A draft is `.NAME.MACHINE.PID.partial`. One whose process of this machine was killed is swept by the
next that writes to the folder.
"""

import os
import platform
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Several machines may write to one folder, and a process is alive only where it runs.
MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"
DRAFT = re.compile(rf"\..+\.{MACHINE}\.(\d{{1,9}})\.partial", re.DOTALL)
LONGEST = 200  # bytes of a name to which a draft can add its own


def stem_of(name: str) -> str:
    """Return what a draft has of its file's name: a checksum of one that would grow too long."""
    coded = os.fsencode(name)
    return name if len(coded) <= LONGEST else f"{zlib.crc32(coded):08x}"


def draft_of(path: Path, pid: int | None = None) -> Path:
    """Return where a process of this machine, by default this one, drafts a file."""
    return path.with_name(f".{stem_of(path.name)}.{MACHINE}.{pid or os.getpid()}.partial")


def followed(path: Path) -> Path:
    """Return the path itself, or of a symbolic link that of the file that it stands for."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


def alive(pid: int) -> bool:
    """Return whether a process of this machine may be running."""
    if os.name == "posix":  # elsewhere there is no harmless signal to ask with
        try:
            os.kill(pid, 0)
        except OSError as error:
            return not isinstance(error, ProcessLookupError)  # it is someone else's
    return True


def sweep(folder: Path) -> None:
    """Remove the drafts that killed processes of this machine left in a folder."""
    for entry in os.listdir(folder):
        draft = DRAFT.fullmatch(entry)
        if draft and not alive(int(draft[1])):
            with suppress(OSError):  # another process may have been faster
                os.unlink(folder / entry)


def publish(draft: Path, path: Path) -> None:
    """Give a finished draft its name, so that not even a power cut leaves a part under it."""
    with open(draft, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(draft, path)


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """Give an empty draft to write to, which replaces the file, or what a symbolic link stands for,
    at the end of the block. An exception removes the draft and leaves the file as it was.
    """
    path = followed(path)
    draft = draft_of(path)
    try:
        draft.write_bytes(b"")  # a killed process of the same number may have left one
        mode = draft.stat().st_mode  # what the user's umask gives; a library may set its own
        yield draft
        draft.chmod(mode)
        publish(draft, path)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole, or raise OSError and leave what was there as it was."""
    with drafted(path) as draft:
        draft.write_bytes(content)
