"""A partial file, and beside it what its server said about the file that it is the beginning of."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Origin:
    """What a server said about the file that a partial file is the beginning of."""

    url: str
    etag: str | None
    last_modified: str | None
    total: int | None

    @property
    def strong_etag(self) -> str | None:
        return self.etag if self.etag and not self.etag.startswith("W/") else None


def origin_file(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def read_origin(partial: Path) -> Origin | None:
    """What `write_origin` kept, None where that is nothing or was cut short itself."""
    try:
        return Origin(**json.loads(origin_file(partial).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_origin(partial: Path, origin: Origin) -> None:
    origin_file(partial).write_text(json.dumps(asdict(origin)), "utf-8")


def discard(partial: Path) -> None:
    """Removes a partial file and what was kept about it."""
    partial.unlink(missing_ok=True)
    origin_file(partial).unlink(missing_ok=True)


def length(path: Path) -> int:
    """The size of a file, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def same_file(before: Origin, now: Origin) -> bool:
    """Whether an answer continues the file that was begun.

    Another address of the same file has other validators: there the lengths decide, and in the end
    the hash.
    """
    if before.total is not None and now.total is not None and before.total != now.total:
        return False
    if before.url != now.url:
        return True
    if before.etag and now.etag:
        return before.etag == now.etag
    if before.last_modified and now.last_modified:
        return before.last_modified == now.last_modified
    return True
