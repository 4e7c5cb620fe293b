"""Writes down what emoji_64 has learned by words. `python -m training.words`."""

import json
from collections.abc import Iterable

from v_diffusion.studio.vocabulary import Vocabulary, words_of
from v_diffusion.weights import cards

from . import data

LIMITS = "draws one thing a picture, not two, and takes most grey image prompts for something else"


def learned(pictures: Iterable[data.Picture]) -> Vocabulary:
    """Return the names of the emoji, and the words of all captions."""
    names = {name: entry["emoji"] for name, entry in data.entries().items()}
    captions = {caption for picture in pictures for caption in picture.captions}
    words = frozenset(word for text in captions for word in words_of(text))
    return Vocabulary(names, words, LIMITS)


def write(vocabulary: Vocabulary) -> None:
    """Write the file that ships beside the weights."""
    named = json.dumps(dict(vocabulary.names), ensure_ascii=False, indent=1)
    words = json.dumps(" ".join(sorted(vocabulary.words)), ensure_ascii=False)
    path = cards.FOLDER / str(cards.cards()["emoji_64"].vocabulary)
    limits = json.dumps(vocabulary.limits)
    text = f'{{"names": {named},\n"limits": {limits},\n"words": {words}}}\n'
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    write(learned(data.load()))
