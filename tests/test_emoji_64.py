"""The model that ships: its files, its card, and whether it draws what it is asked."""

import pytest
import torch

from checkpoints import store, tensors
from drawing.draw import Aim, sample
from training import clip, data, evaluate

FILES = ("emoji_64", "emoji_64_clip")
ASKED = ("red apple", "fox", "pizza", "blue heart", "rocket", "owl", "guitar", "ghost")


@pytest.fixture(scope="module")
def models():
    return evaluate.load()


@pytest.fixture(scope="module")
def pictures() -> list[data.Picture]:
    return data.load()


def test_the_files_are_small_and_fp16():
    total = 0
    for name in FILES:
        path = store.FOLDER / store.cards()[name].file
        total += path.stat().st_size
        dtypes = {t.dtype for t in tensors.read(path).values() if t.is_floating_point()}
        assert dtypes == {torch.float16}
    assert total < 40_000_000


def test_the_cards_have_the_files_hashes():
    text = (store.FOLDER / "emoji_64.md").read_text(encoding="utf-8")
    for name in FILES:
        card = store.cards()[name]
        store.verify(card, store.FOLDER / card.file)
        assert card.sha256 in text


def test_the_training_set(pictures):
    emoji = [p for p in pictures if not p.recoloured]
    names = [p.name for p in pictures]
    assert len(emoji) == 496 and len(set(names)) == len(names)
    assert all(p.pixels.shape == (64, 64, 3) for p in pictures)
    assert not data.HELD_OUT & set(names)


def test_paraphrases_are_not_in_the_training_text(pictures):
    unseen = data.paraphrases()
    captions = {c for p in pictures for c in p.captions}
    assert len(unseen) >= 200
    assert set(unseen) <= {p.name for p in pictures}
    assert not captions & set(unseen.values())


def test_clip_tells_the_training_pictures_apart(models, pictures):
    figures = clip.accuracies(models[1], pictures, data.paraphrases())
    assert figures["name to picture"] >= 0.95
    assert figures["picture to name"] >= 0.95
    assert figures["paraphrase to picture"] >= 0.5


@pytest.mark.parametrize("guidance", [0.0, 100.0])
def test_it_draws_what_it_is_asked(models, pictures, guidance):
    drawn = evaluate.draw(models, evaluate.jobs(ASKED, guidance, steps=20))
    names = [p.name for p in pictures]
    near = [names[i] for i in evaluate.nearest(drawn, clip.to_tensor(pictures))]
    seen = clip.embed_images(models[1], drawn) @ clip.embed_texts(models[1], names).T
    first = [names[i] for i in seen.argmax(1)]
    assert near == list(ASKED)
    assert sum(a == b for a, b in zip(first, ASKED)) >= len(ASKED) - 1


def test_the_sketch_is_drawn_once_a_run(models):
    model, clip_model = models
    drawn = []
    hook = model.sketch.register_forward_hook(lambda *call: drawn.append(call[2]))
    jobs = evaluate.jobs(["fox", "fox"], 50.0, [0, 1], steps=3)
    sample(jobs, models, Aim(clip.embed_texts(clip_model, ["fox", "fox"])))
    assert [list(sketch.shape) for sketch in drawn] == [[2, 3, 32, 32]]
    x, t, embed = torch.randn(2, 3, 64, 64), torch.rand(2), torch.randn(2, 256)
    assert torch.equal(model(x, t, **model.conditions(embed)), model(x, t, embed))
    hook.remove()
