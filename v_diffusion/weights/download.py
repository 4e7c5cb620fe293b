"""One address to a partial file that grows to its full length.

A broken transfer goes on where it stopped, in this process or in a later one. Nothing here knows
what the bytes should be: `store.fetch` checks their SHA-256.
"""

import errno
import shutil
from pathlib import Path
from typing import Any

from ..shell.addresses import PATIENCE, AddressError, check_status, network_error
from ..shell.console import is_quiet, log

CHUNK = 1 << 18
TRIES = 5  # of an address that brings nothing new; what is new starts the count again
FIRST_WAIT = 1.0  # seconds; the second try comes at once, and each later wait is twice as long


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


def save_body(response: Any, partial: Path, start: int, total: int | None, label: str) -> None:
    """Write an answer's body to the partial file from byte `start` on, under a progress bar.

    Raises:
        AddressError: it is shorter than `total` says.
        urllib3.exceptions.HTTPError, OSError: the network; the disk.
    """
    from tqdm import tqdm

    # `read` loses what came before a time-out, but older releases of urllib3 have no `read1`.
    read = getattr(response.raw, "read1", response.raw.read)
    response.raw.enforce_content_length = False  # a short body is told by the file's length
    came = start
    with (
        open(partial, "ab" if start else "wb") as file,
        tqdm(
            total=total,
            initial=start,
            desc=label,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=is_quiet() or None,  # None: where stderr is no terminal
        ) as bar,
    ):
        # A body without an end would fill the disk.
        while (total is None or came < total) and (chunk := read(CHUNK, decode_content=False)):
            came += len(chunk)
            file.write(chunk)
            bar.update(len(chunk))
    if total is not None and came < total:
        raise AddressError(f"the connection broke after {came} of {total} bytes", again=True)


def attempt(url: str, partial: Path, size: int | None, label: str) -> None:
    """Make one request, for what is missing of the partial file.

    Raises:
        AddressError: the partial file isn't complete; what has come is in it.
        requests.RequestException, urllib3.exceptions.HTTPError: likewise.
        OSError: the disk.
    """
    import requests

    offset = length(partial)
    if size is not None and offset >= size:
        return
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    timeout = (PATIENCE.connect, PATIENCE.read)
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
        if offset and response.status_code == 416:  # there is no more than what is here
            return
        check_status(response, {200, 206} if offset else {200})
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise AddressError("it answers with a web page")
        start = offset if response.status_code == 206 else 0
        declared = response.headers.get("Content-Length", "")
        total = start + int(declared) if declared.isdecimal() else size
        if size is not None and total != size:
            raise AddressError(f"it has {total} bytes there, and the right file has {size}")
        save_body(response, partial, start, total, label)


def download(url: str, partial: Path, size: int | None, label: str) -> None:
    """Bring a partial file to its full length.

    Args:
        url: the address.
        partial: the file; it need not exist.
        size: the length in bytes, where it is known. Else the server's word is taken.
        label: the file's name in the progress bar and in messages.

    Raises:
        AddressError: the address doesn't give the file. What has come stays in the partial file.
        OSError: the disk has too little room, or another fault.
    """
    import requests
    from urllib3.exceptions import HTTPError, MaxRetryError
    from urllib3.util import Retry

    retry = patient = Retry(TRIES - 1, backoff_factor=FIRST_WAIT)
    longest = length(partial)
    begun = False
    while True:
        try:
            return attempt(url, partial, size, label)
        except AddressError as error:
            failure = error
        except (requests.RequestException, HTTPError) as error:
            failure = network_error(error, PATIENCE)
            if isinstance(error, requests.ConnectionError) and not begun:
                failure.again = False  # the next address is likelier to help than a wait
        # What starts again from 0 has to get further than ever to count as new.
        if length(partial) > longest:
            longest, begun, retry = length(partial), True, patient
        try:
            retry = retry.increment(error=failure)
        except MaxRetryError:
            failure.again = False
        if not failure.again:
            raise failure
        log.warning(f"{label}: {failure}; trying again")
        retry.sleep()
