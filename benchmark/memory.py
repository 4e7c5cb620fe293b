"""The anonymous memory of this process: what it has asked for, less the files mapped into it."""

import threading
from pathlib import Path

STATUS = Path("/proc/self/status")


def anonymous() -> int | None:
    """Bytes; None where the system doesn't tell."""
    try:
        (line,) = (x for x in STATUS.read_text().splitlines() if x.startswith("RssAnon"))
    except (OSError, ValueError):
        return None
    return int(line.split()[1]) * 1024


class Peak:
    """The highest `anonymous` since it was made, looked at every few milliseconds."""

    def __init__(self, interval: float = 0.005) -> None:
        self.bytes = anonymous()
        self.ended = threading.Event()
        if self.bytes is not None:
            threading.Thread(target=self.watch, args=[interval], daemon=True).start()

    def watch(self, interval: float) -> None:
        while not self.ended.wait(interval):
            self.bytes = self.so_far()

    def so_far(self) -> int | None:
        now = anonymous()
        return self.bytes if self.bytes is None or now is None else max(self.bytes, now)

    def stop(self) -> int | None:
        self.ended.set()
        return self.so_far()
