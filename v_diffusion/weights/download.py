"""One address to a partial file that grows to its full length.

A broken transfer goes on where it stopped, in this process or in a later one. Nothing here knows
what the bytes should be: `store.fetch` checks their SHA-256.
"""

import errno
import shutil
import time
from pathlib import Path

from ..shell.addresses import AddressError, Unreachable, answer, check_status, chunks
from ..shell.console import is_quiet, log

TRIES = 4  # of an address that brings nothing new; what is new starts the count again
FIRST_WAIT = 1.0  # seconds; each later wait is more than twice as long


def human_size(n: int) -> str:
    """Return bytes for people: 2411640000 is "2.4 GB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.1f} {unit}" if n < 10 * size else f"{n / size:.0f} {unit}"
    return f"{n} bytes"


def length(path: Path) -> int:
    """Return the size of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def need_room(folder: Path, n: int) -> None:
    """Raise OSError (ENOSPC) where a folder's disk has less than `n` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < n:
        text = f"it needs {human_size(n)} more and {human_size(free)} are free"
        raise OSError(errno.ENOSPC, text)


def attempt(url: str, partial: Path) -> None:
    """Make one request for what is missing of the partial file. Raises AddressError or OSError."""
    from tqdm import tqdm

    offset = length(partial)
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    with answer(url, headers) as response:
        if offset and response.status_code == 416:  # there is no more than what is here
            return
        check_status(response)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise AddressError("it answers with a web page")
        start = offset if response.status_code == 206 else 0
        declared = response.headers.get("Content-Length", "")
        with (
            open(partial, "ab" if start else "wb") as file,
            tqdm(
                total=start + int(declared) if declared.isdecimal() else None,
                initial=start,
                desc=partial.stem,
                unit="B",
                unit_scale=True,
                leave=False,
                disable=is_quiet() or None,  # None: where stderr is no terminal
            ) as bar,
        ):
            for chunk in chunks(response):
                file.write(chunk)
                file.flush()  # or the last of it would be lost with a process that is killed
                bar.update(len(chunk))


def download(url: str, partial: Path) -> None:
    """Bring a partial file, which need not exist, to its full length, or raise as `attempt`."""
    tries = 0
    while True:
        before = length(partial)
        try:
            return attempt(url, partial)
        except AddressError as failure:
            tries = 0 if length(partial) > before else tries + 1
            # Where nothing is here yet, the next address is likelier to help than a wait.
            hopeless = isinstance(failure, Unreachable) and not length(partial)
            if hopeless or not failure.again or tries == TRIES:
                raise
            log.warning(f"{partial.stem}: {failure}; trying again")
        time.sleep(FIRST_WAIT * (2**tries - 1))
