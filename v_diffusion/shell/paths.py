"""Paths as a user writes them: `~`, and `file://` addresses."""

import os
from pathlib import Path
from urllib.parse import unquote

FILE = "file://"


def expand_user(path: str | Path) -> Path:
    """Return a path with `~` or `~user`, which a shell leaves alone in quotes, expanded."""
    return Path(os.path.expanduser(path))  # without an exception where nobody knows the home


def local(name: str | Path) -> Path:
    """Return the path of a local file from a path or a `file://` address of this machine."""
    text = str(name)
    if text[: len(FILE)].lower() == FILE:
        host, slash, path = text[len(FILE) :].partition("/")
        if slash and host.lower() in ("", "localhost"):
            return Path(slash + unquote(path, errors="surrogateescape"))
    return expand_user(name)
