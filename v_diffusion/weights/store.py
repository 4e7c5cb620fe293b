"""The published and the shipped files: a card for each, where it is on disk, how it gets there.

A fetched file stands under its own name only once its size and SHA-256 are right. Until then it is
`<file>.partial`, which the next fetch goes on with.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..shell.console import note
from ..shell.paths import expand_user
from .download import PATIENCE, Failed, Patience, download, need_room
from .partial import discard, length

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = (PACKAGE.parent / "pyproject.toml").is_file()  # else a package that was installed
FOLDER = (PACKAGE.parent if CHECKOUT else PACKAGE) / "checkpoints"  # what is shipped
CARDS = FOLDER / "cards.json"
ELSEWHERE = "V_DIFFUSION_CHECKPOINTS"  # the variable that names another folder to fetch to
CLIP_CACHE = Path("~/.cache/clip")  # where OpenAI's package keeps the published files


class CheckpointError(RuntimeError):
    """A file of weights can't be had or used. Its text is the whole message to the user."""


@dataclass(frozen=True)
class Card:
    """What is known of a file of weights.

    Args:
        name: what the user calls it.
        kind: "diffusion" or "clip".
        file: its file name.
        sha256: None for a shipped file that is not on record yet.
        bytes: its exact size, None where that isn't known.
        approximate_bytes: about its size, where the exact one isn't known.
        urls: its addresses, in the order to try.
        shipped: whether it is part of the repository.
        clip: of a diffusion model, the card of the CLIP that it is conditioned on.
        side: of a diffusion model, the width and height of its pictures.
        multiple: what other widths and heights have to be a multiple of.
        unprompted: of one that takes an embedding, whether it can draw without: all zeros.
        sampling: of a diffusion model, the defaults of the sampling script's options.
        vocabulary: of a diffusion model, the file that tells what it has learned by words.
        memory: the bytes that one more takes on a CPU: of a diffusion model a `picture`, and one
            that is `guided`, without its cutouts; of a CLIP a `cutout`. `python -m benchmark
            memory` measures them.
    """

    name: str
    kind: str
    file: str
    sha256: str | None
    bytes: int | None
    urls: tuple[str, ...]
    shipped: bool
    approximate_bytes: int | None = None
    clip: str | None = None
    side: int = 0
    multiple: int = 1
    unprompted: bool = False
    sampling: Mapping[str, float] = field(default_factory=dict)
    vocabulary: str | None = None
    memory: Mapping[str, float] = field(default_factory=dict)

    @property
    def size(self) -> int | None:
        """The exact size, else the approximate one."""
        return self.bytes or self.approximate_bytes


def cards() -> dict[str, Card]:
    """The cards by name."""
    data = json.loads(CARDS.read_text("utf-8"))
    return {
        name: Card(**{**card, "name": name, "urls": tuple(card["urls"])})
        for name, card in data.items()
    }


def download_folder() -> Path:
    """The folder that files are fetched to, and looked for in first: what V_DIFFUSION_CHECKPOINTS
    names; else checkpoints/ of a checkout; else, of an installed package, one in the user's cache.
    """
    if named := os.environ.get(ELSEWHERE):
        return expand_user(named)
    if CHECKOUT:
        return FOLDER
    return expand_user(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "v-diffusion"


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises OSError where it can't be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def record(name: str) -> None:
    """Writes the SHA-256 and the size of a shipped file, as it is on disk, into its card.

    Raises:
        KeyError: there is no such card.
        CheckpointError: the file isn't shipped: its hash is its publisher's.
        OSError: the file can't be read, or the cards can't be written.
    """
    data = json.loads(CARDS.read_text("utf-8"))
    card = data[name]
    if not card["shipped"]:
        raise CheckpointError(f"{name} is not a shipped file, so its SHA-256 is not ours to record")
    path = FOLDER / card["file"]
    card.update(sha256=sha256(path), bytes=path.stat().st_size)
    draft = CARDS.with_name(CARDS.name + ".partial")
    draft.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
    os.replace(draft, CARDS)


def locate(card: Card, folders: Iterable[Path] = ()) -> Path | None:
    """The card's file at `download_folder`, among what is shipped or in the first of `folders`
    that has it, whatever is in it.
    """
    paths = (folder / card.file for folder in (download_folder(), FOLDER, *folders))
    # Of os.path, to which a folder that can't be read is no exception.
    return next((path for path in paths if os.path.isfile(path)), None)


def mismatch(card: Card, path: Path) -> str | None:
    """What is wrong with a file that should be the card's: None if its size and hash are right."""
    size = path.stat().st_size
    found = sha256(path)
    if found == card.sha256 and size == (card.bytes or size):
        return None
    sizes = f" and {size} bytes instead of {card.bytes}" if size != (card.bytes or size) else ""
    return f"it has SHA-256 {found}{sizes}, and {card.name} has SHA-256 {card.sha256}"


def verify(card: Card, path: Path) -> None:
    """Checks the size and the SHA-256 of a file. A card without a SHA-256 lets everything pass.

    Raises:
        CheckpointError: they differ from the card's. It names both hashes.
    """
    if card.sha256 is None:
        return
    try:
        wrong = mismatch(card, path)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    if wrong:
        remedy = "check it out again" if card.shipped else "remove it and fetch it again"
        raise CheckpointError(f"{path} is not the right file: {wrong}; {remedy}")


def publish(partial: Path, path: Path) -> None:
    """Gives a whole file its name, so that not even a power cut leaves a part under it."""
    with open(partial, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    discard(partial)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Holds a lock file, which dies with its process, and removes it in the end.

    Args:
        path: the lock file; it need not exist.
        waiting: what to say if another process has the lock.

    Raises:
        OSError: the file can't be made.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        note(waiting)
        lock.acquire()
    try:
        yield
    finally:
        # While it is held: who waits for a file that is gone makes a new one.
        with suppress(OSError):  # Windows removes no file that is open
            path.unlink()
        lock.release()


def fetch_from(url: str, card: Card, path: Path, patience: Patience) -> None:
    """Fetches the card's file from one address.

    Raises:
        Failed: the address doesn't give the right file.
        OSError: the disk.
    """
    partial = path.with_name(card.file + ".partial")
    while True:
        begun_before = length(partial) > 0
        download(url, partial, card.bytes, patience, label=card.file)
        wrong = mismatch(card, partial)
        if wrong is None:
            return publish(partial, path)
        discard(partial)
        # The fault may be in the part that was there already, from another run or address.
        if not begun_before:
            raise Failed(wrong)
        note(f"{card.file}: {wrong}; starting again from its first byte")


def fetch(
    card: Card, folder: Path, patience: Patience = PATIENCE, searched: Iterable[Path] = ()
) -> Path:
    """Fetches the card's file into a folder, or finds that another process just did.

    Args:
        card: the file's card.
        folder: where to; made if need be.
        patience: how long to wait, and how often to try.
        searched: folders to name, in the message of a failure, as those that don't have the file.

    Raises:
        CheckpointError: no address gives the right file, there is too little room on the disk, or
            another file has its name. Nothing new stands under its name.
    """
    path = folder / card.file
    partial = path.with_name(card.file + ".partial")
    failures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        waiting = f"waiting for another process that fetches {card.file}"
        with locked(path.with_name(card.file + ".lock"), waiting):
            if path.is_file():
                verify(card, path)
                return path
            need_room(folder, (card.size or 0) - length(partial))
            for url in card.urls:
                try:
                    fetch_from(url, card, path, patience)
                    return path
                except Failed as failure:
                    failures.append(f"{url} ({failure})")
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"can't write {card.file} to {folder}: {reason}") from None
    looked = ", ".join(dict.fromkeys(str(place) for place in (*searched, folder)))
    works = next(c.name for c in cards().values() if c.shipped and c.kind == "diffusion")
    raise CheckpointError(
        f"{card.file} is not in {looked} and can't be fetched from {', '.join(failures)}; "
        f"its SHA-256 is {card.sha256}; --model {works} works without it"
    )


def obtain(
    name: str,
    folders: Iterable[Path] = (),
    into: Path | None = None,
    patience: Patience = PATIENCE,
) -> Path:
    """The file of a card, fetched if it is nowhere on disk.

    The hash of a file that was there is checked where it is a CLIP's, which may be a TorchScript
    archive. Of the others only the size is: they are read as tensors and nothing else.

    Args:
        name: the card's name.
        folders: where to look after `download_folder` and what is shipped.
        into: the folder to fetch to, `download_folder` if None.
        patience: how long to wait, and how often to try.

    Raises:
        CheckpointError: there is no such card, or its file can't be had, or is not the right one.
    """
    known = cards()
    if name not in known:
        raise CheckpointError(f"no checkpoint {name!r}: there are {', '.join(known)}")
    card, folders = known[name], tuple(folders)
    path = locate(card, folders)
    if path is None:
        if card.shipped:
            raise CheckpointError(
                f"{card.file} is part of the repository and not in {FOLDER}: check it out again"
            )
        return fetch(
            card,
            into or download_folder(),
            patience,
            searched=(download_folder(), FOLDER, *folders),
        )
    if card.kind == "clip" or (card.bytes is not None and length(path) != card.bytes):
        verify(card, path)
    return path
