"""The words that a model has learned, where a file beside its weights lists them."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, cached_property

import regex

from ..shell.console import listed
from ..weights import cards

LETTERS = re.compile(r"[^\W\d_]+")
# Words that build sentences and say nothing about a picture.
GRAMMAR = frozenset(
    "also am among cannot each had he her hers him his i its me most my our ours same she such "
    "their theirs them they those us was we were which whom whose".split()
)
LINKS = frozenset("a an and at by for from in is of on or the to with".split())
ENDS = ("ings", "ing", "ed", "ly", "es", "s")
SHORTEST = 3  # letters that are left of a word without its ending
EMOJI = regex.compile(r"\p{Extended_Pictographic}|\p{Regional_Indicator}")
SYMBOLS = 0x2000  # characters below are signs that Unicode counts as emoji, such as ©
MARKS = re.compile("[\ufe0f\U0001f3fb-\U0001f3ff]")  # emoji presentation and skin tones
SIGNS = re.compile(r"(?<=\w)[!?.,;:]+(?=\s|$)")  # captions have none
NEAREST = 3  # names to suggest


def words_of(text: str) -> list[str]:
    """Return a text's words in order, lower case without accents, but no single Latin letters."""
    plain = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return [word for word in LETTERS.findall(plain) if len(word) > 1 or not word.isascii()]


def stem(word: str) -> str:
    """Return what a word, its plural and its other simple forms have in common."""
    for end in ENDS:
        if word.endswith(end) and len(word) - len(end) >= SHORTEST:
            word = word.removesuffix(end)
            break
    word = word.removesuffix("e")
    if len(word) > SHORTEST and word[-1] == word[-2]:  # running
        word = word[:-1]
    return word[:-1] + "i" if word.endswith("y") else word  # berries


def bare(text: str) -> str:
    """Return a text without emoji presentation marks and skin tones."""
    return MARKS.sub("", text).strip()


def clusters(text: str) -> list[str]:
    """Return the characters of a text as a reader counts them: a flag or joined emoji is one."""
    return list(regex.findall(r"\X", bare(text)))


def symbols_of(text: str) -> list[str]:
    """Return the emoji of a text in order."""
    return [one for one in clusters(text) if EMOJI.search(one) and ord(one[0]) >= SYMBOLS]


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model has learned.

    Args:
        names: of the things that it has seen, each with its emoji.
        words: all that it has read, as `words_of` gives them.
        limits: the end of a sentence that begins with the model's name.
    """

    names: Mapping[str, str]
    words: frozenset[str]
    limits: str = ""

    @cached_property
    def _stems(self) -> frozenset[str]:
        return frozenset(map(stem, self.words | GRAMMAR))

    @cached_property
    def _emoji(self) -> dict[str, str]:
        return {bare(emoji): name for name, emoji in self.names.items()}

    def read(self, text: str) -> str:
        """Return a text as the model reads it: names for emoji, no punctuation after words."""
        parts = [f" {self._emoji[one]} " if one in self._emoji else one for one in clusters(text)]
        named = "".join(parts)
        return SIGNS.sub("", text if named == bare(text) else " ".join(named.split()))

    def unknown(self, text: str) -> list[str]:
        """Return the words and emoji that the model has never read in any form, each once."""
        words, symbols = words_of(text), symbols_of(self.read(text))
        if not LETTERS.search(self.read(text)) and not symbols:
            return list(dict.fromkeys(text.split()))
        return list(dict.fromkeys([w for w in words if stem(w) not in self._stems] + symbols))

    def spelled_like(self, words: Iterable[str]) -> list[str]:
        """Return the names of things with a word that is spelled nearly like one of these."""
        owners: dict[str, list[str]] = {}
        for name in self.names:
            for word in words_of(name):
                owners.setdefault(word, []).append(name)
        close = [near for word in words for near in get_close_matches(word, owners, 3, 0.75)]
        return list(dict.fromkeys(name for near in close for name in owners[near]))


def warning(
    model: str, text: str, nearest: Callable[[str, list[str], int], list[str]]
) -> str | None:
    """Return a warning about words that a model has not learned, None if it knows them all;
    `nearest` picks the texts that CLIP finds nearest, where spelling finds none.
    """
    known = of(model)
    if known is None or not (unknown := known.unknown(text)):
        return None
    near = known.spelled_like(unknown)[:NEAREST]
    # A word that CLIP has never read leads anywhere; the other words lead nearer.
    rest = [word for word in words_of(known.read(text)) if word not in unknown]
    if not near and not (GRAMMAR | LINKS).issuperset(rest):
        near = nearest(" ".join(rest), list(known.names), NEAREST)
    advice = "--list-prompts shows what it knows"
    if near:
        advice = f"similar things that it knows: {', '.join(near)}"
    words = listed([f'"{word}"' for word in unknown])
    return f"warning: {model} has not learned {words}; {advice}"


@cache
def of(model: str) -> Vocabulary | None:
    """Return the words that a model has learned, None where there is no list of them."""
    file = cards.cards()[model].vocabulary
    if file is None:
        return None
    found = json.loads((cards.FOLDER / file).read_text("utf-8"))
    return Vocabulary(found["names"], frozenset(found["words"].split()), found["limits"])
