"""The words that a model has learned, where that is known: a file beside its weights."""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, cached_property

from ..weights import store

LETTERS = re.compile(r"[^\W\d_]+")
# What makes a sentence of words and says nothing of a picture.
GRAMMAR = frozenset(
    "also am among cannot each had he her hers him his i its me most my our ours same she such "
    "their theirs them they those us was we were which whom whose".split()
)
LINKS = frozenset("a an and at by for from in is of on or the to with".split())
ENDS = ("ings", "ing", "ed", "ly", "es", "s")
CLOSE = 0.75  # how much of a word has to be that of a mistyped one
SHORTEST = 3  # what has to be left of a word without its end
EMOJI = 0x1F000  # the first of those that Unicode goes on adding to
JOINER = "\u200d"  # makes one picture of two
FLAGS = frozenset(map(chr, range(0x1F1E6, 0x1F200)))
MARKS = re.compile("[\ufe0f\U0001f3fb-\U0001f3ff]")
SIGNS = re.compile(r"(?<=\w)[!?.,;:]+(?=\s|$)")  # which no caption has
SYMBOLS = 0x2000  # below this character what Unicode calls a symbol is rather a sign: a degree


def words_of(text: str) -> list[str]:
    """The words of a text in order, in small letters without accents; none of one Latin letter."""
    plain = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return [word for word in LETTERS.findall(plain) if len(word) > 1 or not word.isascii()]


def stem(word: str) -> str:
    """What a word, its plural and its other simple forms have in common."""
    for end in ENDS:
        if word.endswith(end) and len(word) - len(end) >= SHORTEST:
            word = word.removesuffix(end)
            break
    word = word.removesuffix("e")
    if len(word) > SHORTEST and word[-1] == word[-2]:  # of running
        word = word[:-1]
    return word[:-1] + "i" if word.endswith("y") else word  # of berries


def is_symbol(character: str) -> bool:
    """Whether a character is a picture itself, be it one that this Python doesn't know yet."""
    kind = unicodedata.category(character)
    return ord(character) >= SYMBOLS and kind == "So" or ord(character) >= EMOJI and kind == "Cn"


def symbols_of(text: str) -> list[str]:
    """The pictures in a text, in order: each a character, several joined, or a flag's two."""
    found: list[str] = []
    before = ""
    for c in bare(text):
        if is_symbol(c):
            if found and before == JOINER:
                found[-1] += JOINER + c
            elif c in FLAGS and before in FLAGS and len(found[-1]) == 1:
                found[-1] += c
            else:
                found.append(c)
        before = c
    return found


def bare(text: str) -> str:
    """A text without what only says that an emoji is one, and of which skin."""
    return MARKS.sub("", text).strip()


@dataclass(frozen=True)
class Vocabulary:
    """What a model has learned by words.

    Args:
        names: of the things that it has seen, each with its emoji.
        words: all that it has read, as `words_of` gives them.
    """

    names: Mapping[str, str]
    words: frozenset[str]

    @cached_property
    def _stems(self) -> frozenset[str]:
        return frozenset(map(stem, self.words | GRAMMAR))

    @cached_property
    def _emoji(self) -> dict[str, str]:
        return {bare(emoji): name for name, emoji in self.names.items()}

    @cached_property
    def _pictures(self) -> re.Pattern[str]:
        longest = sorted(map(re.escape, self._emoji), key=len, reverse=True)
        # What is joined to more is another picture.
        return re.compile(f"(?<!{JOINER})(?:{'|'.join(longest)})(?!{JOINER})")

    def said(self, text: str) -> str:
        """The text with the names of things in the place of their emoji, and no signs at the ends
        of words.
        """
        plain = bare(text)
        named = self._pictures.sub(lambda found: f" {self._emoji[found[0]]} ", plain)
        return SIGNS.sub("", text if named == plain else " ".join(named.split()))

    def unknown(self, text: str) -> list[str]:
        """The words and emoji of a text that the model has never read in any form, each once; of
        one without a letter, all that it has.
        """
        words, symbols = words_of(text), symbols_of(self.said(text))
        if not LETTERS.search(self.said(text)) and not symbols:
            return list(dict.fromkeys(text.split()))
        return list(dict.fromkeys([w for w in words if stem(w) not in self._stems] + symbols))

    def spelled_like(self, words: Iterable[str]) -> list[str]:
        """The names of things that have a word which is spelled nearly as one of these."""
        owners: dict[str, list[str]] = {}
        for name in self.names:
            for word in words_of(name):
                owners.setdefault(word, []).append(name)
        close = [near for word in words for near in get_close_matches(word, owners, 3, CLOSE)]
        return list(dict.fromkeys(name for near in close for name in owners[near]))


def says_something(word: str) -> bool:
    """Whether a word alone brings a picture to mind."""
    return word not in GRAMMAR and word not in LINKS


def lines(vocabulary: Vocabulary) -> Iterator[str]:
    """A vocabulary's things, as a script reads them: a name, a tab and its emoji."""
    yield from (f"{name}\t{emoji}" for name, emoji in vocabulary.names.items())


def write(vocabulary: Vocabulary, model: str) -> None:
    """Writes the file of a model that its card names."""
    named = json.dumps(dict(vocabulary.names), ensure_ascii=False, indent=1)
    words = json.dumps(" ".join(sorted(vocabulary.words)), ensure_ascii=False)
    path = store.FOLDER / str(store.cards()[model].vocabulary)
    path.write_text(f'{{"names": {named},\n"words": {words}}}\n', "utf-8")


@cache
def of(model: str) -> Vocabulary | None:
    """What a model has learned by words, None where nobody has written it down."""
    file = store.cards()[model].vocabulary
    if file is None:
        return None
    found = json.loads((store.FOLDER / file).read_text("utf-8"))
    return Vocabulary(found["names"], frozenset(found["words"].split()))
