"""What a model has learned by words, and what is said of a prompt that it can't know."""

import json
from functools import partial

import numpy as np
import pytest
from conftest import levels

from CLIP import clip, prompts
from training import data, words
from v_diffusion import Job, Studio
from v_diffusion.images import metadata
from v_diffusion.studio import vocabulary
from v_diffusion.studio.vocabulary import Vocabulary, stem, symbols_of, words_of
from v_diffusion.weights import cards

QUICK = ("--model", "emoji_64", "--device", "cpu", "--steps", "2", "-cs", "0")
SMALL = Vocabulary({"fox": "🦊", "peace symbol": "☮️"}, frozenset(["berry", "fox", "running"]))


@pytest.fixture(scope="module")
def small_clip():
    return clip.load("emoji_64_clip", device="cpu")[0].requires_grad_(False)


def warning(text: str, clip_model, model: str = "emoji_64") -> str | None:
    return vocabulary.warning(model, text, partial(prompts.nearest, clip_model))


def test_the_words_of_a_text():
    text = "A Piñata at 7 o'clock, it's heart-shaped_ok: 12 foxes! 狐 x"
    expected = "pinata at clock it heart shaped ok foxes 狐".split()
    assert words_of(text) == expected
    assert symbols_of("-40° ©, 🦊🏰 → ☮️") == ["🦊", "🏰", "☮"]


@pytest.mark.parametrize(
    "forms",
    [
        "fox foxes foxed foxing",
        "berry berries",
        "run runs running",
        "bake bakes baked baking",
        "dress dresses dressed dressing",
        "house houses",
        "happy happily",
        "bus",
    ],
)
def test_the_forms_of_a_word_have_one_stem(forms):
    assert len(set(map(stem, forms.split()))) == 1


def test_words_that_are_near_have_not():
    assert len(set(map(stem, ["car", "card", "care", "cat", "cab"]))) == 4  # care is as car


@pytest.mark.parametrize(
    "text, unknown",
    [
        ("Foxes, BERRIES; to run", ["to"]),
        ("their fox 12 x", []),
        ("Eiffel tower! eiffel", ["eiffel", "tower"]),
        ("🦊☮ ☮️", []),
        ("a 🏰🏰 fox 狐", ["狐", "🏰"]),
        ("", []),
        ("123 123", ["123"]),
        ("!!! :", ["!!!", ":"]),
        ("🇫🇷🇫🇷🇩🇪", ["🇫🇷", "🇩🇪"]),
        ("fox 🏰\u200d🦊", ["🏰\u200d🦊"]),
        ("\U0001fae8", ["\U0001fae8"]),
    ],
)
def test_unknown_words(text, unknown):
    assert SMALL.unknown(text) == unknown


@pytest.mark.parametrize(
    "text, said",
    [
        ("🦊", "fox"),
        (" ☮ ", "peace symbol"),
        ("☮️", "peace symbol"),
        ("a 🦊", "a fox"),
        ("🦊🦊 ☮️!", "fox fox peace symbol !"),
        ("🏰", "🏰"),
        ("🦊\u200d🏰 🏰\u200d🦊", "🦊\u200d🏰 🏰\u200d🦊"),  # each another picture
        ("FOX!!! a red, big one.", "FOX a red big one"),
        ("Dune: part  two", "Dune part  two"),
        (" !", " !"),
    ],
)
def test_an_emoji_is_its_name(text, said):
    assert SMALL.read(text) == said


def test_joined_emoji_and_those_of_a_skin():
    known = Vocabulary({"cat": "🐈", "black cat": "🐈\u200d⬛", "thumbs up": "👍"}, frozenset())
    assert known.read("🐈\u200d⬛🐈 👍🏽") == "black cat cat thumbs up"
    assert known.unknown("🐈\u200d⬛👍🏽") == []


def test_what_ships_is_what_was_learned():
    """As the training set has it: `python -m training.words` writes it."""
    found = vocabulary.of("emoji_64")
    assert found == words.learned(data.load())
    assert len(found.names) == 496 == len(set(map(vocabulary.bare, found.names.values())))
    captions = [caption for picture in data.load() for caption in picture.captions]
    assert not [text for text in captions if found.unknown(text)]
    assert not [text for text in found.names.values() if found.unknown(text)]
    assert found.unknown("Eiffel tower") == ["eiffel"]
    assert vocabulary.of("cc12m_1") is None


def test_it_is_written_as_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "FOLDER", tmp_path)
    words.write(SMALL)
    vocabulary.of.cache_clear()
    try:
        assert vocabulary.of("emoji_64") == SMALL
    finally:
        vocabulary.of.cache_clear()
    assert json.loads((tmp_path / "emoji_64.json").read_text())["words"] == "berry fox running"


def test_the_nearest_texts(small_clip):
    assert prompts.nearest(small_clip, "fox", ["pizza", "fox", "rocket"], 5)[0] == "fox"
    assert len(prompts.nearest(small_clip, "fox", ["pizza", "fox", "rocket"], 2)) == 2


def test_a_warning_names_what_is_near(small_clip):
    text = warning("a dog of Kerfluffle's, in xyzzy", small_clip)
    start = 'warning: emoji_64 has not learned "kerfluffle", "xyzzy"; similar things that it '
    assert text.startswith(start + "knows: ")
    near = text.removeprefix(start + "knows: ").split(", ")
    assert len(near) == 3 and set(near) <= set(vocabulary.of("emoji_64").names)
    # Of the words that it knows, "dog" alone is left here, and that is a name.
    assert warning("dog kerfluffle", small_clip).partition("knows: ")[2][:5] == "dog, "
    many = " ".join(f"xyzzy{c}" for c in "bcdfghj")
    assert " and 2 more; --list" in warning(many, small_clip)
    assert warning("a red apple", small_clip) is None
    assert warning("kerfluffle", small_clip, "cc12m_1") is None


@pytest.mark.parametrize(
    "text, near",
    [
        ("a appel", "red apple, green apple"),
        ("an elefant, a dog", "elephant"),
        ("xyzzy", ""),
        ("the xyzzy of 🇫🇷", ""),
        ("123", ""),
        ("!!!", ""),
    ],
)
def test_spelling_comes_first_and_guesses_never(text, near, small_clip):
    said = warning(text, small_clip).partition("; ")[2]
    expected = f"similar things that it knows: {near}"
    assert said == (expected if near else "--list-prompts shows what it knows")


def test_it_is_told_once_for_a_prompt(clip_sample):
    done = clip_sample("Eiffel tower", "fox", *QUICK, "-n", "3", "-bs", "2", "--quiet")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith('warning: emoji_64 has not learned "eiffel"; similar things that ')


def test_an_emoji_is_drawn(clip_sample, tmp_path):
    done = clip_sample("🦊", *QUICK, "-o", "emoji.png", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert metadata.read(tmp_path / "emoji.png")["prompts"] == [{"text": "🦊", "weight": 1.0}]
    assert clip_sample("fox", *QUICK, "-o", "name.png").returncode == 0
    np.testing.assert_array_equal(levels(tmp_path / "emoji.png"), levels(tmp_path / "name.png"))


def test_from_python_too(caplog):
    studio = Studio("cpu")
    job = {"model": "emoji_64", "steps": 1, "script": "cfg_sample", "method": "ddim"}
    drawn = [np.asarray(studio.draw(Job(text, **job))) for text in ("🦊:2", "fox:2", "eiffel")]
    assert (drawn[0] == drawn[1]).all()
    assert caplog.text.count("warning: emoji_64 has not learned") == 1
