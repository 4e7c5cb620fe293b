"""What of an address may be written down: all but what lets somebody in."""

import re

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


def is_secret(parameter: str) -> bool:
    """Whether a query's `name=value` looks as if it let somebody in."""
    name, _, value = parameter.partition("=")
    words = {word.lower() for word in WORD.findall(name)}
    return (
        name.lower().startswith(SIGNED)
        or not words.isdisjoint(WORDS)
        or any(word.endswith(("token", "secret", "password")) for word in words)
        or any(RANDOM.fullmatch(text) for text in (name, value))
    )


def without_secrets(address: str) -> str:
    """An address without user name and password, and without what looks like a key or a token in
    its query. Anything else, such as a path, as it is.
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
    """Somebody else's words, without the secrets of the addresses in them."""
    address = r"(?i)[a-z][a-z0-9+.-]*://[^\s'\"<>]+"
    return re.sub(address, lambda match: without_secrets(match[0]), text)
