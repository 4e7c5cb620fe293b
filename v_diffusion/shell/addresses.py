"""What a path or an HTTP(S) address holds, for reading.

An address is not trusted: what it sends is bounded in bytes and in time, whatever it does.
"""

import io
import re
import threading
from dataclasses import dataclass
from http.client import responses
from pathlib import Path
from typing import Any, BinaryIO

from ..weights.download import WAIT_AND_ASK_AGAIN, causes, network_failure
from ..weights.download import Patience as Waits
from .console import one_line, printable
from .paths import local
from .reading import PIPE_LIMIT as LIMIT
from .reading import size_of
from .secrets import scrubbed, without_secrets

REDIRECTS = 10
CHUNK = 1 << 16
# Of schemes that nobody here speaks.
OTHER = re.compile(r"(?!file:|https?:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class AddressError(OSError):
    """An address can't be read. Its text is the whole message, one line.

    An OSError, so that who opens paths and addresses alike has one exception to catch.

    Args:
        again: whether it is the network's or the server's trouble, and the same address may give
            its file another time.
    """

    def __init__(self, text: str, again: bool = False) -> None:
        super().__init__(text)
        self.again = again


@dataclass(frozen=True)
class Patience:
    """How long to wait for an address, in seconds.

    Args:
        connect: for a connection.
        read: for the next bytes.
        total: for everything, from the name's look-up to the last byte.
    """

    connect: float = 10.0
    read: float = 30.0
    total: float = 120.0


PATIENCE = Patience()


class Refused(Exception):
    """Why an answer is not taken, and whether another may be, later."""

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


def failure(url: str, why: str, again: bool) -> AddressError:
    # Parts of the reason can be a server's own words.
    return AddressError(f"{printable(without_secrets(url))}: {one_line(why)}", again)


def check_answer(response: Any, limit: int) -> None:
    """Raises Refused for an answer that is no file or says that it is too long."""
    status = response.status_code
    if not 200 <= status < 300:
        # The standard's words for the status: the server's own could be anything.
        words = f" ({responses[status]})" if status in responses else ""
        again = status in WAIT_AND_ASK_AGAIN or status >= 500
        advice = "try again later" if again else "check the address"
        raise Refused(f"the server answers {status}{words}; {advice}", again)
    declared = response.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_long(limit)


def too_long(limit: int) -> Refused:
    return Refused(
        f"it is longer than {size_of(limit)}; use a smaller picture, or save it and name the file"
    )


def read_answer(
    url: str, limit: int, patience: Patience, given_up: threading.Event
) -> io.BytesIO | None:
    """What an address answers, or None if `given_up` came first.

    Raises:
        Refused: the answer is no file or too long, or there are too many redirects.
        requests.RequestException, urllib3.exceptions.HTTPError, ValueError: the network, or the
            address itself.
    """
    import requests

    def drop_redirect(response: Any, **_: object) -> None:
        if given_up.is_set():
            raise Refused("given up")
        if response.is_redirect:
            response.close()  # requests would read its body, however long it is

    body = io.BytesIO()
    with requests.Session() as session:
        session.max_redirects = REDIRECTS
        try:
            response = session.get(
                url,
                stream=True,
                timeout=(patience.connect, patience.read),
                headers={"Accept-Encoding": "identity"},
                hooks={"response": drop_redirect},
            )
        except requests.TooManyRedirects:
            raise Refused(f"it redirects more than {REDIRECTS} times") from None
        with response:
            check_answer(response, limit)
            response.raw.enforce_content_length = True  # older releases of urllib3 don't by default
            # `read` waits for a whole chunk, but older releases have no `read1`.
            read = getattr(response.raw, "read1", response.raw.read)
            while chunk := read(CHUNK, decode_content=True):
                if given_up.is_set():
                    return None
                body.write(chunk)
                if body.tell() > limit:
                    raise too_long(limit)
    body.seek(0)
    return body


def reason(url: str, error: Exception, patience: Patience) -> Refused:
    """What went wrong with an address, in words, and whether a later try may go better."""
    from ssl import SSLCertVerificationError

    from urllib3.exceptions import DecodeError, IncompleteRead, ProtocolError

    if isinstance(error, Refused):
        return error
    if isinstance(error, (IncompleteRead, ProtocolError)):
        return Refused("the connection broke before the end; try again", again=True)
    if isinstance(error, DecodeError):
        return Refused("the server packs what it sends, and it can't be unpacked", again=True)
    failed = network_failure(error, Waits(patience.connect, patience.read), begun=False)
    # An address that is none at all is a ValueError.
    wrong = isinstance(error, ValueError) or any(
        isinstance(cause, SSLCertVerificationError) for cause in causes(error)
    )
    if wrong:
        advice = "check the address"
    else:
        advice = "try again later" if failed.again else "check the address and the network"
    text = scrubbed(str(failed)).strip().rstrip(".")
    if wrong and without_secrets(url) != url:  # whatever part of it they quote
        text = "it is no sound address"
    if text.startswith("<"):  # urllib3 1 puts the connection's repr first
        text = text.rpartition("] ")[2]
    return Refused(f"can't be fetched: {text}; {advice}", again=not wrong)


def is_address(text: str) -> bool:
    """Whether it is one to fetch, and no path."""
    return text.lower().startswith(("http://", "https://"))


def check_scheme(url: str) -> None:
    """Raises AddressError for an address that can't be read by its scheme; a path has none."""
    if OTHER.match(url):
        why = "of addresses only file, HTTP and HTTPS ones are opened; save it and name the file"
        raise failure(url, why, again=False)


def fetch(url_or_path: str | Path, limit: int = LIMIT, patience: Patience = PATIENCE) -> BinaryIO:
    """An open binary file: a local one, or what an HTTP or HTTPS address answers.

    Args:
        url_or_path: what to open; of a local file a path or a file:// address.
        limit: how many bytes an address may send. A local file may have any size.
        patience: how long an address may take.

    Raises:
        AddressError: the address can't be read.
        OSError, ValueError: the local file can't be opened.
    """
    url = str(url_or_path)
    check_scheme(url)
    if not is_address(url):
        return open(local(url_or_path), "rb")
    from urllib3.exceptions import HTTPError

    given_up = threading.Event()
    outcome: list[io.BytesIO | BaseException | None] = []

    def work() -> None:
        try:
            outcome.append(read_answer(url, limit, patience, given_up))
        except BaseException as error:
            outcome.append(error)

    # No time-out of a socket's bounds the look-up of a name, or headers that come byte by byte;
    # a thread can be left behind. It ends with its next bytes, or with the program.
    thread = threading.Thread(target=work, name="fetch", daemon=True)
    thread.start()
    try:
        thread.join(patience.total)
    finally:
        given_up.set()
    result = outcome[0] if outcome else None
    if result is None:
        raise failure(url, f"it has not come within {patience.total:g} s", again=True)
    if isinstance(result, (Refused, OSError, HTTPError, ValueError)):  # requests' are OSErrors
        why = reason(url, result, patience)
        raise failure(url, str(why), why.again) from None
    if isinstance(result, BaseException):
        raise result
    return result
