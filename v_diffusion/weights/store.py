"""The cards' files: where each is on disk, and how it gets there.

A fetched file stands under its own name only once its SHA-256 is right. Until then it is
`<file>.partial`, which the next fetch goes on with.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..shell.addresses import AddressError
from ..shell.console import log, printable
from ..shell.paths import expand_user
from ..shell.writing import publish, write_whole
from .cards import CARDS, CHECKOUT, FOLDER, Card, CheckpointError, cards, find_card
from .download import download, human_size, length, need_room

ELSEWHERE = "V_DIFFUSION_CHECKPOINTS"  # the variable that names another folder to fetch to
CLIP_CACHE = Path("~/.cache/clip")  # where OpenAI's package keeps the published files


def download_folder() -> Path:
    """Return the folder that files are fetched to and looked for in first: the one that
    V_DIFFUSION_CHECKPOINTS names, else checkpoints/ of a checkout, else one in the user's cache.
    """
    if named := os.environ.get(ELSEWHERE):
        return expand_user(named)
    if CHECKOUT:
        return FOLDER
    return expand_user(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "v-diffusion"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal. Raise OSError where it can't be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def state(path: Path) -> tuple[int, int, int] | None:
    """Return a file's size, time of change and inode, None where there is none."""
    with suppress(OSError):
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns, status.st_ino
    return None


def record(name: str) -> None:
    """Write the SHA-256 and the size of a shipped file, as it is on disk, into its card."""
    data = json.loads(CARDS.read_text("utf-8"))
    card = data[name]
    path = FOLDER / card["file"]
    card.update(sha256=sha256(path), bytes=path.stat().st_size)
    write_whole(CARDS, (json.dumps(data, indent=2) + "\n").encode())


def locate(card: Card, folder: Path | None = None) -> Path | None:
    """Return the card's file in a folder where it may be, whatever is in it, or None."""
    cache = CLIP_CACHE if card.kind == "clip" else None
    folders = filter(None, [download_folder(), FOLDER, folder, cache])
    paths = [expand_user(folder) / card.file for folder in folders]
    # Of os.path, to which a folder that can't be read is no exception.
    return next((path for path in paths if os.path.isfile(path)), None)


def mismatch(card: Card, path: Path) -> str | None:
    """Return what is wrong with the card's file: None if its SHA-256 is right."""
    found = sha256(path)
    if found == card.sha256:
        return None
    return f"it has SHA-256 {found}, and {card.name} has SHA-256 {card.sha256}"


def verify(card: Card, path: Path) -> None:
    """Raise CheckpointError for a file whose SHA-256 is not the card's."""
    try:
        wrong = mismatch(card, path)
    except OSError as error:
        raise CheckpointError(f"{printable(path)}: {error.strerror}") from None
    if wrong:
        remedy = "check it out again" if card.shipped else "remove it and fetch it again"
        raise CheckpointError(f"{printable(path)} is not the right file: {wrong}; {remedy}")


def partial_of(path: Path) -> Path:
    """Return where a file is until it is whole."""
    return path.with_name(path.name + ".partial")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, which dies with its process, and remove it in the end."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning(f"waiting for another process that fetches {path.stem}")
        lock.acquire()
    try:
        yield
    finally:
        # While it is held: who waits for a file that is gone makes a new one.
        with suppress(OSError):  # Windows removes no file that is open
            path.unlink()
        lock.release()


def fetch_from(url: str, card: Card, path: Path) -> None:
    """Fetch the card's file from one address. Raise AddressError where it doesn't give it."""
    partial = partial_of(path)
    log.info(f"fetching {card.file} ({human_size(card.bytes)}) from {url}")
    begun_before = length(partial) > 0
    download(url, partial)
    wrong = mismatch(card, partial)
    if wrong is None:
        return publish(partial, path)
    partial.unlink()
    # The fault may be in the part that was there already, from another run or address.
    if not begun_before:
        raise AddressError(wrong)
    fetch_from(url, card, path)


def fetch(card: Card, folder: Path) -> Path:
    """Fetch the card's file, or go on where it stopped; return its path. Raises CheckpointError."""
    path = folder / card.file
    failures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(card.file + ".lock")):
            if path.is_file():
                verify(card, path)
                return path
            need_room(folder, card.bytes - length(partial_of(path)))
            for url in card.urls:
                try:
                    fetch_from(url, card, path)
                    return path
                except AddressError as failure:
                    failures.append(f"{url}: {failure}")
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"can't write {card.file} to {printable(folder)}: {reason}") from None
    works = next(c.name for c in cards().values() if c.shipped and c.kind == "diffusion")
    raise CheckpointError(
        f"can't fetch {card.file}: {'; '.join(failures)}; try again later, put the file with "
        f"SHA-256 {card.sha256} into {printable(folder)} yourself, or use --model {works}, which "
        "needs no download"
    )


def obtain(name: str, folder: Path | None = None) -> Path:
    """Return the file of a card, fetched to a folder if it is nowhere on disk. The hash of a CLIP's
    that was there is checked: a user may have got it anywhere.

    Raises:
        UserError: there is no such card.
        CheckpointError: its file can't be had, or is not the right one.
    """
    card = find_card(name)
    path = locate(card, folder)
    if path is None:
        if card.shipped:
            raise CheckpointError(
                f"{card.file} is part of the repository and not in {FOLDER}: check it out again"
            )
        return fetch(card, folder or download_folder())
    if card.kind == "clip":
        verify(card, path)
    return path
