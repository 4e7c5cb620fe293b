"""The model that ships: its files, its card, and whether it draws what it is asked."""

import random

import pytest
import torch

from training import clip, data, evaluate, views
from v_diffusion import Job
from v_diffusion.studio.sample import sample
from v_diffusion.studio.targets import Targets
from v_diffusion.weights import store, tensors

CPU = torch.device("cpu")
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


@pytest.mark.parametrize("asked, guidance", [(ASKED, 0.0), (ASKED[:3], 100.0)])
def test_it_draws_what_it_is_asked(models, pictures, asked, guidance):
    drawn = evaluate.draw(models, evaluate.jobs(asked, guidance, steps=10))
    names = [p.name for p in pictures]
    near = [names[i] for i in evaluate.nearest(drawn, clip.to_tensor(pictures))]
    seen = clip.embed_images(models[1], drawn) @ clip.embed_texts(models[1], names).T
    first = [names[i] for i in seen.argmax(1)]
    assert near == list(asked)
    assert sum(a == b for a, b in zip(first, asked)) >= len(asked) - 1


def test_the_sketch_is_drawn_once_a_run(models):
    model, clip_model, _ = models
    drawn = []
    hook = model.sketch.register_forward_hook(lambda *call: drawn.append(call[2]))
    jobs = evaluate.jobs(["fox", "fox"], 50.0, [0, 1], steps=3)
    sample(jobs, models, Targets(clip.embed_texts(clip_model, ["fox", "fox"])), CPU)
    assert [list(sketch.shape) for sketch in drawn] == [[2, 3, 32, 32]]
    x, t, embed = torch.randn(2, 3, 64, 64), torch.rand(2), torch.randn(2, 256)
    assert torch.equal(model(x, t, **model.conditions(embed)), model(x, t, embed))
    hook.remove()


def distances(drawn: torch.Tensor, pictures: list[data.Picture]) -> torch.Tensor:
    """Of each picture [N, 3, 64, 64] in 0 to 1 how far the nearest training picture is, by RMS."""
    known = clip.to_tensor(pictures).flatten(1)
    return torch.cdist(drawn.flatten(1), known).amin(1) / known.shape[1] ** 0.5


def test_without_words_it_draws_emoji(models, pictures):
    jobs = [Job(model="emoji_64", seed=seed, steps=20) for seed in range(8)]
    drawn = sample(jobs, models, Targets(torch.zeros(8, 256)), CPU)
    away = distances((drawn.clamp(-1, 1) + 1) / 2, pictures)
    # The mean of all pictures is 0.18 from the nearest one, at the least.
    assert (away < 0.15).sum() >= 7
    names = evaluate.nearest((drawn + 1) / 2, clip.to_tensor(pictures))
    assert len(set(names.tolist())) >= 6


def test_without_words_it_goes_by_what_is_likely(models, pictures):
    """Of a known thing with little noise it knows which one it is."""
    model = models.model
    embeds = model.known.embeds[[3, 100]]
    x = clip.to_tensor([pictures[3], pictures[100]]) * 2 - 1
    alpha, sigma = (torch.full((2, 1, 1, 1), n) for n in (0.95, 0.31))
    torch.manual_seed(0)
    things = model.sketch(model.known.embeds * 16)
    likely, sketches = model.known(
        things, model.sketch.spread, x * alpha + torch.randn_like(x) * sigma, alpha, sigma
    )
    torch.testing.assert_close(likely, embeds, atol=1e-3, rtol=1e-3)
    wanted = model.sketch(embeds * 16)
    torch.testing.assert_close(sketches, wanted, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("is_plain", [True, False])
def test_a_zero_condition_beside_another_draws_what_it_draws_alone(models, is_plain):
    model = models.model
    embeds = torch.cat([torch.zeros(1, 256), clip.embed_texts(models.clip, ["fox"])])
    x, t = torch.randn(2, 3, 64, 64), torch.tensor([0.4, 0.4])

    def v(rows: slice) -> torch.Tensor:
        given = {"clip_embed": embeds[rows]} if is_plain else model.conditions(embeds[rows])
        assert ("things" in given) == (not is_plain and rows.start != 1)
        return model(x[rows], t[rows], **given)

    alone = torch.cat([v(slice(0, 1)), v(slice(1, 2))])
    torch.testing.assert_close(v(slice(0, 2)), alone, atol=1e-4, rtol=1e-4)


def test_a_picture_without_words_beside_one_of_words(models):
    embeds = torch.cat([torch.zeros(1, 256), clip.embed_texts(models.clip, ["fox"])])
    jobs = [Job(model="emoji_64", seed=seed, steps=5) for seed in range(2)]
    both = sample(jobs, models, Targets(embeds), CPU)
    for i in range(2):
        (alone,) = sample(jobs[i : i + 1], models, Targets(embeds[i : i + 1]), CPU)
        torch.testing.assert_close(both[i], alone, atol=1e-3, rtol=1e-3)


def test_guidance_leads_away_from_the_mean_of_all_things(models, monkeypatch):
    given = []
    monkeypatch.setattr(models.model, "forward", lambda x, t, **rest: given.append(rest) or x)
    embeds = torch.stack([torch.zeros(1, 256), torch.ones(1, 256)])
    job = Job(["fox"], model="emoji_64", script="cfg_sample", method="ddim", steps=1)
    sample([job], models, Targets(embeds, torch.tensor([[-2.0], [3.0]])), CPU)
    sample([job], models, Targets(embeds[:1], torch.tensor([[1.0]])), CPU)
    assert ["things" in rest for rest in given] == [False, True]


def test_an_emoji_is_a_prompt_and_colours_are_known(models, pictures):
    asked = {"🚀": "rocket", "🍕": "pizza"}
    asked |= {name: name for name in ("white car", "brown mushroom", "white umbrella")}
    drawn = evaluate.draw(models, evaluate.jobs(list(asked), 0.0, steps=10))
    names = [p.name for p in pictures]
    near = [names[i] for i in evaluate.nearest(drawn, clip.to_tensor(pictures))]
    assert near == list(asked.values())


@pytest.mark.parametrize("change, least", [("turned", 6), ("shrunken", 6), ("on a colour", 3)])
def test_a_changed_picture_is_still_known(models, pictures, change, least):
    shown = [p for p in pictures if p.name in ASKED and not p.recoloured]
    images = clip.to_tensor(shown)
    rng = random.Random(0)
    given = torch.cat([views.CHANGES[change](image, rng) for image in torch.split(images, 1)])
    drawn = evaluate.draw_towards(models, given, 0.0, steps=10)
    names = [p.name for p in pictures]
    near = [names[i] for i in evaluate.nearest(drawn, clip.to_tensor(pictures))]
    assert sum(a == p.name for a, p in zip(near, shown)) >= least
