"""Files at paths and at HTTP(S) addresses, for reading.

An address is not trusted: what it sends is bounded in bytes and, once its headers have come, in
time. What of an address may let somebody in is kept out of messages and records.
"""

import io
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .console import one_line, printable
from .paths import local
from .reading import PIPE_LIMIT as LIMIT
from .reading import too_long

REDIRECTS = 10
CHUNK = 1 << 16
PASSING = {408, 425, 429}  # statuses that may pass, as everything from 500 on
# Of schemes that nobody here speaks.
OTHER = re.compile(r"(?!file:|https?:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)

ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*://)([^/?#]*)([^?#]*)(.*)", re.IGNORECASE | re.DOTALL)
# In the name of a query's parameter, as a word: access_token, X-API-Key, AWSAccessKeyId, ...
WORDS = frozenset(
    "apikey auth authkey authorization bearer code cred credential credentials hmac jwt key keys "
    "oauth pass passphrase passwd password policy pwd sas secret session sid sig sign signature "
    "signed ticket token tokens".split()
)
SIGNED = ("x-amz-", "x-goog-", "x-ms-", "x-oss-")  # of which every parameter is a part of the key
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# What nobody has thought up: letters and digits in a long row.
RANDOM = re.compile(r"(?=.*\d)(?=.*[a-zA-Z])[\w+/=%~-]{32,}", re.ASCII | re.DOTALL)


class AddressError(OSError):
    """An address can't be read. Its text is one line.

    An OSError, so that a caller that opens paths and addresses alike has one exception to catch.

    Args:
        again: whether it is the network's or the server's trouble, and the same address may give
            its file another time.
    """

    def __init__(self, text: str, again: bool = False) -> None:
        super().__init__(text)
        self.again = again


@dataclass(frozen=True)
class Patience:
    """Time-outs for an address, in seconds.

    Args:
        connect: for a connection.
        read: for the next bytes.
        total: from the request to the last byte.
    """

    connect: float = 10.0
    read: float = 30.0
    total: float = 120.0


PATIENCE = Patience()


def is_secret(parameter: str) -> bool:
    """Return whether a query's `name=value` looks as if it let somebody in."""
    name, _, value = parameter.partition("=")
    words = {word.lower() for word in WORD.findall(name)}
    return (
        name.lower().startswith(SIGNED)
        or not words.isdisjoint(WORDS)
        or any(word.endswith(("token", "secret", "password")) for word in words)
        or any(RANDOM.fullmatch(text) for text in (name, value))
    )


def without_secrets(address: str) -> str:
    """Return an address without user name and password, and without what looks like a key or a
    token in its query. Anything else, such as a path, stays as it is.
    """
    match = ADDRESS.fullmatch(address)
    if not match:
        return address
    scheme, host, path, rest = match.groups()
    # A password in which a slash is not written as %2F: what is before it is no host and port.
    if "@" not in host and "@" in path + rest and re.search(r":(?!\d*$)[^\]]*$", host):
        return without_secrets(scheme + (path + rest).rpartition("@")[2])
    shown = scheme + host.rpartition("@")[2] + path
    for part in re.findall(r"[?#][^?#]*", rest):
        parameters = re.split("[&;]", part[1:])
        kept = [parameter for parameter in parameters if not is_secret(parameter)]
        if kept != parameters:
            part = part[0] + "&".join(kept) if kept else ""
        shown += part
    return shown


def scrubbed(text: str) -> str:
    """Return somebody else's words without the secrets of the addresses in them."""
    address = r"(?i)[a-z][a-z0-9+.-]*://[^\s'\"<>]+"
    return re.sub(address, lambda match: without_secrets(match[0]), text)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception of requests or urllib3, what it wraps, what that wraps, and so on."""
    inner: BaseException | None = error
    while inner is not None:
        yield inner
        candidates = (getattr(inner, "reason", None), *inner.args)
        wrapped = [e for e in candidates if isinstance(e, BaseException)]
        inner = wrapped[0] if wrapped else inner.__cause__


def network_error(error: Exception, patience: Patience) -> AddressError:
    """Return an exception of requests or urllib3, or one that an address caused, in words."""
    from ssl import SSLCertVerificationError

    import requests
    from urllib3 import exceptions

    if isinstance(error, ValueError):
        return AddressError("the address is malformed")
    if isinstance(error, requests.TooManyRedirects):
        return AddressError(f"it redirects more than {REDIRECTS} times")
    if isinstance(error, requests.ConnectTimeout):
        return AddressError(f"no connection within {patience.connect:g} s", again=True)
    if isinstance(error, (requests.ReadTimeout, exceptions.ReadTimeoutError)):
        return AddressError(f"nothing came for {patience.read:g} s", again=True)
    if isinstance(error, exceptions.ProtocolError):
        return AddressError("the connection broke before the end", again=True)
    if isinstance(error, exceptions.DecodeError):
        return AddressError("the server's compressed answer can't be unpacked", again=True)
    last = list(causes(error))[-1]
    text = getattr(last, "strerror", None) or str(last) or type(last).__name__
    again = not isinstance(last, SSLCertVerificationError)
    return AddressError(one_line(scrubbed(text)).rstrip("."), again)


def check_status(response: Any, accepted: Collection[int]) -> None:
    """Raise AddressError for an answer whose status is not one of the accepted."""
    from http import HTTPStatus

    status = response.status_code
    if status not in accepted:
        # The standard's words for the status: the server's own could be anything.
        words = {s.value: f" ({s.phrase})" for s in HTTPStatus}.get(status, "")
        again = status in PASSING or status >= 500
        raise AddressError(f"the server answers {status}{words}", again)


def read_answer(url: str, limit: int, patience: Patience) -> io.BytesIO:
    """Return what an address answers.

    Raises:
        AddressError: the answer is no file, too long or too slow.
        requests.RequestException, urllib3.exceptions.HTTPError, ValueError: the network, or the
            address itself.
    """
    import requests

    def drop_redirect(response: Any, **_: object) -> None:
        if response.is_redirect:
            response.close()  # requests would read its body, however long it is

    end = time.monotonic() + patience.total
    body = io.BytesIO()
    with requests.Session() as session:
        session.max_redirects = REDIRECTS
        with session.get(
            url,
            stream=True,
            timeout=(patience.connect, patience.read),
            headers={"Accept-Encoding": "identity"},
            hooks={"response": drop_redirect},
        ) as response:
            check_status(response, range(200, 300))
            declared = response.headers.get("Content-Length", "")
            size = int(declared) if declared.isdecimal() else 0
            response.raw.enforce_content_length = True  # older releases of urllib3 don't by default
            # `read` waits for a whole chunk, but older releases have no `read1`.
            read = getattr(response.raw, "read1", response.raw.read)
            while size <= limit and (chunk := read(CHUNK, decode_content=True)):
                body.write(chunk)
                size = max(size, body.tell())
                if time.monotonic() > end:
                    raise AddressError(f"it has not come within {patience.total:g} s", again=True)
    if size > limit:
        why = too_long(limit).strerror
        raise AddressError(f"{why}; use a smaller picture, or save it and name the file")
    body.seek(0)
    return body


def is_address(text: str) -> bool:
    """Return whether a text is an address to fetch, and no path."""
    return text.lower().startswith(("http://", "https://"))


def check_scheme(url: str) -> None:
    """Raise AddressError for an address that can't be read by its scheme; a path has none."""
    if OTHER.match(url):
        why = "only http, https and file addresses can be opened; save it and name the file"
        raise AddressError(f"{printable(without_secrets(url))}: {why}")


def fetch(url_or_path: str | Path, limit: int = LIMIT, patience: Patience = PATIENCE) -> BinaryIO:
    """Return an open binary file: a local one, or what an HTTP or HTTPS address answers.

    Args:
        url_or_path: what to open; of a local file a path or a file:// address.
        limit: how many bytes an address may send. A local file may have any size.
        patience: how long an address may take.

    Raises:
        AddressError: the address can't be read. Its text begins with the address.
        OSError, ValueError: the local file can't be opened.
    """
    url = str(url_or_path)
    check_scheme(url)
    if not is_address(url):
        return open(local(url_or_path), "rb")
    import requests
    from urllib3.exceptions import HTTPError

    unreachable = False
    try:
        return read_answer(url, limit, patience)
    except AddressError as error:
        failure = error
    except (requests.RequestException, HTTPError, ValueError) as error:
        failure = network_error(error, patience)
        unreachable = isinstance(error, requests.ConnectionError)
    remedy = "check the address"
    if failure.again:
        remedy = "check the address and the network" if unreachable else "try again later"
    text = str(failure) if ";" in str(failure) else f"{failure}; {remedy}"
    raise AddressError(f"{printable(without_secrets(url))}: {text}", failure.again)
