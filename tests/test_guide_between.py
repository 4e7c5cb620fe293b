"""Guidance between two times only."""

import numpy as np
import pytest
import torch
from closed_form import cond_fn, model, schedule, start

from diffusion import sampling
from diffusion.guidance import make_cond_model_fn, make_interval_model_fn
from diffusion.methods import METHODS
from v_diffusion import Job, Studio
from v_diffusion.images.inputs import Inputs
from v_diffusion.job.hints import hints
from v_diffusion.job.job import JobError
from v_diffusion.studio.sample import shares, times

SOME = {"model": "emoji_64", "steps": 4, "cutn": 2}
CFG = {"model": "emoji_64", "steps": 4, "method": "ddim", "script": "cfg_sample"}
# The four times are 0.996, 0.903, 0.658 and 0.329.
BETWEEN = (0.6, 0.95)


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio("cpu")


@pytest.mark.parametrize("method", METHODS)
def test_all_times_give_the_bits_of_guidance(method):
    x, extra_args = start(2)
    rest = schedule(5), 0.0, extra_args
    guided = sampling.run_method(method, model, x, *rest, cond_fn)
    everywhere = make_interval_model_fn(make_cond_model_fn(model, cond_fn), model, 0, 1)
    assert torch.equal(sampling.run_method(method, everywhere, x, *rest), guided)
    nowhere = make_interval_model_fn(make_cond_model_fn(model, cond_fn), model, 1, 1)
    plain = sampling.run_method(method, model, x, *rest)
    assert torch.equal(sampling.run_method(method, nowhere, x, *rest), plain)
    assert not torch.equal(plain, guided)


def test_both_ends_are_inside():
    asked = []
    one, other = (lambda x, t, name=name: asked.append(name) for name in ("guided", "plain"))
    steps = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
    for t in steps:
        make_interval_model_fn(one, other, 0.25, 0.75)(None, t[None])
    assert asked == ["plain", "guided", "guided", "guided", "plain"]


def test_a_job_of_all_times_is_one_without_them():
    assert Job("a", guide_between=[0, 1], **SOME) == Job("a", **SOME)
    job = Job("a", guide_between=["0.25", 0.5], **SOME)
    assert job.guide_between == (0.25, 0.5)
    assert job.batch_key != Job("a", **SOME).batch_key
    for value, said in (
        ([0.5, 0.25], "--guide-between: 0.5 is above 0.25; put the smaller time first"),
        (0.5, "--guide-between: 0.5 is not a list of two numbers"),
        ([0, 2], "--guide-between: 2 is not a number from 0 to 1"),
    ):
        with pytest.raises(JobError, match=said):
            Job("a", guide_between=value, **SOME)


def test_it_is_told_where_it_does_nothing():
    said = list(hints(Job(guide_between=(0, 0.5), **SOME), {"guide_between": (0, 0.5)}))
    assert len(said) == 1 and said[0].startswith("warning: --guide-between has no effect without")
    job = Job("a", guide_between=(0, 0.5), **CFG)
    assert not list(hints(job, {"guide_between": (0, 0.5)}))


def evaluations(studio: Studio, job: Job, monkeypatch) -> list[tuple[int, int, bool]]:
    """The rows that the network is given, the pictures that CLIP sees of what it made of them, and
    if there are gradients, for each evaluation.
    """
    models, seen = studio.load(job), []
    forward, encode = models.model.forward, models.clip.encode_image

    def count_rows(x, t, **extra_args):
        seen.append([len(x), 0, torch.is_grad_enabled()])
        return forward(x, t, **extra_args)

    def count_pictures(pictures):
        seen[-1][1] = len(pictures)
        return encode(pictures)

    monkeypatch.setattr(models.model, "forward", count_rows)
    monkeypatch.setattr(models.clip, "encode_image", count_pictures)
    studio.draw(job)
    return list(map(tuple, seen))


def test_outside_the_network_is_asked_once_and_clip_not_at_all(studio, monkeypatch):
    job = Job("red apple", guide_between=BETWEEN, **SOME)
    outside, inside = (1, 0, False), (1, 2, True)
    assert evaluations(studio, job, monkeypatch) == [outside, inside, inside, outside]


def test_outside_the_network_is_asked_once_with_the_words(studio, monkeypatch):
    prompts = ["red apple:4", "leaf:-1"]
    found = evaluations(studio, Job(prompts, guide_between=BETWEEN, **CFG), monkeypatch)
    assert [rows for rows, _, _ in found] == [1, 3, 3, 1]


def test_outside_of_it_the_words_are_those_of_the_other_script(studio):
    """Where no step is inside, classifier-free guidance is the network's own idea of the prompts,
    as without CLIP's guidance.
    """
    never = Job(["red apple:4", "leaf:-1"], guide_between=(0, 0.01), **CFG)
    own = Job(["red apple:4", "leaf:-1"], clip_guidance_scale=0, model="emoji_64", steps=4)
    one, other = (np.asarray(studio.draw(job)).astype(int) for job in (never, own))
    assert np.abs(one - other).max() <= 1


@pytest.mark.parametrize("more", [SOME, CFG])
def test_a_batch_draws_what_each_draws_alone(studio, more):
    jobs = [Job(text, seed=i, guide_between=BETWEEN, **more) for i, text in enumerate("ab")]
    together = studio.draw_batch(jobs, [Inputs()] * 2)
    for job, picture in zip(jobs, together):
        alone = np.asarray(studio.draw(job)).astype(int)
        assert (np.abs(alone - np.asarray(picture)) <= 1).mean() >= 0.999


def test_the_time_left_knows_of_it(studio):
    """A step that CLIP guides counts for five others, one with two conditions for two."""
    job = Job("red apple", guide_between=BETWEEN, **SOME)
    assert shares(job, times(job, studio.load(job).model)) == [1 / 12, 6 / 12, 11 / 12, 1]
    job = Job("red apple", guide_between=BETWEEN, **CFG)
    told = []
    studio.draw_batch([job], [Inputs()], lambda info: told.append(info["done"]))
    assert told == [1 / 6, 3 / 6, 5 / 6, 1]
    assert shares(Job("a", **SOME), torch.tensor([0.9, 0.1])) == [0.5, 1]
    there = {**CFG, "script": "cfg_modify_image", "init": "a.png", "guide_between": (0, 0.5)}
    assert shares(Job("a", **there), torch.tensor([0.2, 0.6, 0.9])) == [0.25, 0.5, 0.75, 1]
    there["guide_between"] = (0.5, 0.8)
    assert shares(Job("a", **there), torch.tensor([0.2, 0.6, 0.9])) == [0.2, 0.4, 0.6, 1]
