"""One address to a partial file that grows to its full length.

A broken transfer goes on where it stopped, in this process or in a later one. What the server said
about the file (its `Origin`) lies beside the partial file, so that the beginning of one file never
gets the end of another. Nothing here knows what the bytes should be: `store.fetch` does.
"""

import errno
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..shell.console import is_quiet, mention, note
from .partial import Origin, discard, length, read_origin, same_file, write_origin

CHUNK = 1 << 18
WAIT_AND_ASK_AGAIN = {408, 425, 429}  # and everything from 500 on


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds, and how often to try.

    Args:
        connect: for a connection.
        read: for the next bytes.
        tries: how often an address is asked before it is given up. When a try has brought
            something new, the count starts again.
        first_wait: between a failure and the next try; it doubles until something comes.
    """

    connect: float = 10.0
    read: float = 30.0
    tries: int = 5
    first_wait: float = 1.0


PATIENCE = Patience()


class Failed(Exception):
    """Why an address doesn't give the file, and whether it may after a wait."""

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


def human_size(n: int) -> str:
    """Bytes for people: 2411640000 is "2.4 GB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.1f} {unit}" if n < 10 * size else f"{n / size:.0f} {unit}"
    return f"{n} bytes"


def need_room(folder: Path, n: int) -> None:
    """Raises OSError (ENOSPC) where `folder` has less than `n` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < n:
        text = f"it needs {human_size(n)} more and {human_size(free)} are free"
        raise OSError(errno.ENOSPC, text)


def range_headers(url: str, offset: int, before: Origin | None) -> dict[str, str]:
    """Asks for what is missing, of the same file if the server can tell."""
    headers = {"Accept-Encoding": "identity"}
    if before and offset:
        headers["Range"] = f"bytes={offset}-"
        if before.url == url and before.strong_etag:
            headers["If-Range"] = before.strong_etag
    return headers


def check_status(response: Any, asked_range: bool) -> None:
    """Raises Failed for an answer that is neither the file nor the part that was asked for."""
    status = response.status_code
    if status not in ({200, 206} if asked_range else {200}):
        again = status in WAIT_AND_ASK_AGAIN or status >= 500 or (status == 416 and asked_range)
        raise Failed(f"{status} {response.reason or ''}".strip(), again)
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise Failed("it answers with a web page")


def read_answer(url: str, response: Any) -> tuple[int, Origin]:
    """Where an answer's body starts in the file, and what the server says about the file."""
    headers = response.headers
    start, total = 0, headers.get("Content-Length", "")
    if response.status_code == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        if not match:
            raise Failed("206 without a Content-Range")
        start, total = int(match[1]), match[2]
    known = int(total) if total.isdecimal() else None
    return start, Origin(url, headers.get("ETag"), headers.get("Last-Modified"), known)


def causes(error: BaseException) -> Iterator[BaseException]:
    """An exception of requests or urllib3, what it wraps, what that wraps, and so on."""
    inner: BaseException | None = error
    while inner is not None:
        yield inner
        candidates = (getattr(inner, "reason", None), *inner.args)
        wrapped = [e for e in candidates if isinstance(e, BaseException)]
        inner = wrapped[0] if wrapped else inner.__cause__


def network_failure(error: Exception, patience: Patience, begun: bool) -> Failed:
    """An exception of requests or urllib3 in words.

    Where no connection came about, the next address is likelier to help than a wait, unless this
    address has been there a moment ago (`begun`).
    """
    import requests
    from urllib3 import exceptions

    chain = list(causes(error))
    if isinstance(error, requests.ConnectTimeout):
        reason = f"no connection within {patience.connect:g} s"
    elif isinstance(error, (requests.ReadTimeout, exceptions.ReadTimeoutError)):
        reason = f"nothing came for {patience.read:g} s"
    else:
        last = chain[-1]
        reason = getattr(last, "strerror", None) or str(last) or type(last).__name__
    no_connection = (
        exceptions.ConnectTimeoutError,
        exceptions.NewConnectionError,
        exceptions.ProxyError,
        exceptions.SSLError,
    )
    return Failed(reason, again=begun or not any(isinstance(e, no_connection) for e in chain))


def save_body(raw: Any, partial: Path, start: int, origin: Origin, label: str) -> None:
    """Writes an answer's body to the partial file from byte `start` on, under a progress bar.

    Raises:
        Failed: the body is longer than the file.
        urllib3.exceptions.HTTPError, OSError: the network; the disk.
    """
    from tqdm import tqdm

    # `read` loses what came before a time-out, but older releases of urllib3 have no `read1`.
    read = getattr(raw, "read1", raw.read)
    raw.enforce_content_length = False  # `attempt` sees a short body by the file's length
    came = start
    with (
        open(partial, "ab" if start else "wb") as file,
        tqdm(
            total=origin.total,
            initial=start,
            desc=label,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=is_quiet() or None,  # None: where stderr is no terminal
        ) as bar,
    ):
        write_origin(partial, origin)
        while chunk := read(CHUNK, decode_content=False):
            came += len(chunk)
            if origin.total is not None and came > origin.total:
                raise Failed(f"it sends more than {origin.total} bytes")
            file.write(chunk)
            bar.update(len(chunk))


def attempt(
    url: str, partial: Path, size: int | None, patience: Patience, label: str, begun: bool
) -> None:
    """One request, for what is missing of the partial file.

    Raises:
        Failed: the partial file isn't complete; what has come is in it.
        requests.RequestException, urllib3.exceptions.HTTPError: likewise.
        OSError: the disk.
    """
    import requests

    before = read_origin(partial)
    offset = length(partial) if before else 0
    if before and offset and offset == (size or before.total):
        return
    headers = range_headers(url, offset, before)
    timeout = (patience.connect, patience.read)
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
        if response.status_code == 416:
            discard(partial)
        check_status(response, asked_range="Range" in headers)
        start, now = read_answer(url, response)
        if size is not None and now.total not in (None, size):
            raise Failed(f"it has {now.total} bytes there, and the right file has {size}")
        if response.status_code == 206:
            if before is None or start != offset or not same_file(before, now):
                discard(partial)
                raise Failed("the file there has changed", again=True)
            now = replace(before if before.url == url else now, total=now.total or before.total)
        origin = replace(now, total=size or now.total)
        need_room(partial.parent, (origin.total or 0) - start)
        if not begun:
            of_size = f" ({human_size(origin.total)})" if origin.total else ""
            mention(f"fetching {label}{of_size} from {url}")
        save_body(response.raw, partial, start, origin, label)
    if origin.total is not None and length(partial) < origin.total:
        reason = f"the connection broke after {length(partial)} of {origin.total} bytes"
        raise Failed(reason, again=True)


def download(
    url: str,
    partial: Path,
    size: int | None = None,
    patience: Patience = PATIENCE,
    label: str = "",
) -> None:
    """Brings a partial file to its full length.

    Args:
        url: the address.
        partial: the file; it need not exist.
        size: the length, where it is known. Else the server's word is taken.
        patience: how long to wait, and how often to try.
        label: what the progress bar calls the file.

    Raises:
        Failed: the address doesn't give the file. What has come stays in the partial file.
        OSError: the disk has too little room, or another fault.
    """
    import requests
    from urllib3.exceptions import HTTPError

    label = label or partial.name
    furthest = failures = 0
    while True:
        before = max(length(partial), furthest)
        failure: Failed | Exception
        try:
            return attempt(url, partial, size, patience, label, begun=furthest > 0)
        except (Failed, requests.RequestException, HTTPError) as error:
            failure = error
        # What starts again from 0 has to get further than ever to count as new: otherwise a file
        # that keeps changing would be asked for without end.
        if length(partial) > before:
            furthest, failures = length(partial), 0
        failures += 1
        if not isinstance(failure, Failed):
            failure = network_failure(failure, patience, begun=furthest > 0)
        if not failure.again or failures >= patience.tries:
            raise failure
        wait = patience.first_wait * 2 ** (failures - 1)
        note(f"{label}: {failure}; trying again in {wait:g} s")
        time.sleep(wait)
