"""Writes down what emoji_64 has learned by words. `python -m training.words`."""

from collections.abc import Iterable

from v_diffusion.studio import vocabulary
from v_diffusion.studio.vocabulary import Vocabulary, words_of

from . import data


def learned(pictures: Iterable[data.Picture]) -> Vocabulary:
    """The names of the emoji, and the words of all captions."""
    names = {name: entry["emoji"] for name, entry in data.entries().items()}
    captions = {caption for picture in pictures for caption in picture.captions}
    return Vocabulary(names, frozenset(word for text in captions for word in words_of(text)))


def write(pictures: Iterable[data.Picture]) -> None:
    """The file that ships beside the weights."""
    vocabulary.write(learned(pictures), "emoji_64")


if __name__ == "__main__":
    write(data.load())
