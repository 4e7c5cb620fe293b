"""Command lines as text: what a shell reads as these words, and a terminal shows as it is."""

import re
import shlex

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # tabs and new lines are harmless
ESCAPED = re.compile(rf"{CONTROL.pattern}|['\\]")


def quoted(word: str) -> str:
    """A word as a shell reads it. One with control characters has their bytes' numbers in their
    place, in the quotes that bash, zsh, ksh and POSIX (2024) have for that: `$'a\\007'`.
    """
    if not CONTROL.search(word):
        return shlex.quote(word)

    def number(found: re.Match[str]) -> str:
        return "".join(f"\\{byte:03o}" for byte in found[0].encode())

    return f"$'{ESCAPED.sub(number, word)}'"
