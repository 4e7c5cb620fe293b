"""Writes down what emoji_64 has learned by words. `python -m training.words`."""

import json
from collections.abc import Iterable

from v_diffusion.studio.vocabulary import Vocabulary, words_of
from v_diffusion.weights import cards

from . import data


def learned(pictures: Iterable[data.Picture]) -> Vocabulary:
    """Return the names of the emoji, and the words of all captions."""
    names = {name: entry["emoji"] for name, entry in data.entries().items()}
    captions = {caption for picture in pictures for caption in picture.captions}
    return Vocabulary(names, frozenset(word for text in captions for word in words_of(text)))


def write(vocabulary: Vocabulary) -> None:
    """Write the file that ships beside the weights."""
    named = json.dumps(dict(vocabulary.names), ensure_ascii=False, indent=1)
    words = json.dumps(" ".join(sorted(vocabulary.words)), ensure_ascii=False)
    path = cards.FOLDER / str(cards.cards()["emoji_64"].vocabulary)
    path.write_text(f'{{"names": {named},\n"words": {words}}}\n', "utf-8")


if __name__ == "__main__":
    write(learned(data.load()))
