"""Files at paths and at HTTP(S) addresses, for reading.

An address is not trusted: what it sends is bounded in bytes and, once its headers have come, in
time. What of an address may let somebody in is kept out of messages and records.
"""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .console import one_line, printable
from .paths import local
from .reading import STREAM_LIMIT, read_file, too_long

TIMEOUTS = (10.0, 30.0)  # seconds: for a connection, and for the next bytes
PATIENCE = 120.0  # seconds for a whole file
CHUNK = 1 << 16
PASSING = {408, 425, 429}  # statuses that may pass, as everything from 500 on
SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
ADDRESS = re.compile(rf"{SCHEME.pattern}[^\s'\"<>]+", re.IGNORECASE)
# Up to the last @ of the host; or of all, where a password has a slash and what is before is no
# host and port.
USER = re.compile(r"(?<=://)([^/?#]*@|[^/?#:\[]*:(?!\d*(?:[/?#]|$)).*@)", re.DOTALL)
# By its name, or as long a row of letters and digits as nobody has thought up.
SECRET = re.compile(
    r"[^=]*(key|token|secret|pass|pwd|auth|cred|sign|session|policy|ticket|jwt|hmac)"
    r"|(x-|sig|sid|sas|code)[^=]*=|([^=]*=)?[\w+/=%~-]{32,}$",
    re.IGNORECASE,
)


class AddressError(OSError):
    """An address can't be read, in one line; with `again`, for a reason that may pass."""

    def __init__(self, text: str, again: bool = False) -> None:
        super().__init__(text)
        self.again = again


class Unreachable(AddressError):
    """No connection to an address comes about."""


def without_secrets(address: str) -> str:
    """Return an address without user name, password, fragment and what looks like a key."""
    if not SCHEME.match(address):
        return address
    base, _, query = USER.sub("", address, count=1).partition("#")[0].partition("?")
    kept = [parameter for parameter in query.split("&") if not SECRET.match(parameter)]
    return "?".join(filter(None, [base, "&".join(kept)]))


def scrubbed(text: str) -> str:
    """Return somebody else's words without the secrets of the addresses in them."""
    return ADDRESS.sub(lambda match: without_secrets(match[0]), text)


@contextmanager
def answer(url: str, headers: Mapping[str, str] | None = None) -> Iterator[Any]:
    """Give an address's answer before its body is read. Raises AddressError, also in the block."""
    import requests
    from urllib3 import exceptions

    def drop_redirect(response: requests.Response, **_: object) -> None:
        if response.is_redirect:
            response.close()  # requests would read its body, however long it is

    headers = {"Accept-Encoding": "identity", **(headers or {})}
    hooks = {"response": drop_redirect}
    try:
        with requests.get(
            url, stream=True, timeout=TIMEOUTS, headers=headers, hooks=hooks
        ) as response:
            yield response
    except ValueError:
        raise AddressError("the address is malformed") from None
    except requests.ConnectTimeout:
        raise Unreachable("no connection in time", again=True) from None
    except (requests.Timeout, exceptions.TimeoutError):
        raise AddressError("no answer in time", again=True) from None
    except requests.RequestException as error:
        cause: BaseException = error
        while cause.__context__:
            cause = cause.__context__
        text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        unreachable = isinstance(error, requests.ConnectionError)
        kind = Unreachable if unreachable else AddressError
        raise kind(one_line(scrubbed(text)).rstrip("."), again=unreachable) from None
    except exceptions.HTTPError:
        raise AddressError("the connection broke before the end", again=True) from None


def check_status(response: Any) -> None:
    """Raise AddressError for an answer that is no success."""
    from http.client import responses

    status = response.status_code
    if not 200 <= status < 300:
        # The standard's words for the status: the server's own could be anything.
        words = f" ({responses[status]})" if status in responses else ""
        again = status in PASSING or status >= 500
        raise AddressError(f"the server answers {status}{words}", again)


def chunks(response: Any) -> Iterator[bytes]:
    """Yield the body of an answer as it comes."""
    response.raw.enforce_content_length = True  # older releases of urllib3 don't by default
    # `read` waits for a whole chunk, but older releases have no `read1`.
    read = getattr(response.raw, "read1", response.raw.read)
    while chunk := read(CHUNK, decode_content=True):
        yield chunk


def fetch(url_or_path: str | Path) -> bytes:
    """Return the content of a file at a path or a file://, HTTP or HTTPS address. Raise
    AddressError, which begins with the address, or OSError or ValueError for a local file.
    """
    url = str(url_or_path)
    scheme = SCHEME.match(url)
    if not scheme or scheme[1].lower() == "file":
        return read_file(local(url_or_path))
    content = bytearray()
    end = time.monotonic() + PATIENCE
    try:
        if scheme[1].lower() not in ("http", "https"):
            raise AddressError("only http, https and file addresses can be opened")
        with answer(url) as response:
            check_status(response)
            for chunk in chunks(response):
                content += chunk
                if len(content) > STREAM_LIMIT:
                    raise AddressError(str(too_long(STREAM_LIMIT).strerror))
                if time.monotonic() > end:
                    raise AddressError(f"it has not come within {PATIENCE:g} s", again=True)
    except AddressError as error:
        remedy = "try again later" if error.again else "save it and name the file"
        text = f"{printable(without_secrets(url))}: {error}; check the address, or {remedy}"
        raise AddressError(text, error.again) from None
    return bytes(content)
