"""One batch: from jobs, loaded models and targets to pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from CLIP import guidance
from CLIP.model import CLIP
from diffusion import noise, sampling, utils
from diffusion.guidance import Model, make_cfg_model_fn

from ..job.job import Job
from ..job.script import CFG_MODIFY_IMAGE, CLIP_SAMPLE
from ..shell.program import UserError

Callback = Callable[[dict[str, Any]], object]


class Models(NamedTuple):
    """A diffusion model and its CLIP, ready to draw.

    Args:
        model: an instance of what `diffusion.get_model` gives, or that compiled.
        clip: a CLIP; None where no job asks it anything.
    """

    model: Any
    clip: Any


class Aim(NamedTuple):
    """Where the pictures of a batch are to go.

    Args:
        embeds: what CLIP is to see in each, [B, D]; without CLIP's guidance the embeddings that
            the network is given, [K, B, D], the first of them zeros. None where there are no words.
        weights: of the latter, [K, B].
        inits: the pictures to start from, [B, 3, H, W] in -1 to 1.
    """

    embeds: Tensor | None
    weights: Tensor | None = None
    inits: Tensor | None = None


def times(job: Job, model: Any) -> Tensor:
    """The times at which a job's sampler asks its model, falling; of a picture to modify, rising.

    Raises:
        UserError: there are none.
    """
    if job.script == CFG_MODIFY_IMAGE.name:
        steps = utils.get_spliced_ddpm_cosine_schedule(torch.linspace(0, 1, job.steps + 1))
        steps = steps[steps <= job.max_timestep]
        if len(steps) < 2:
            lower = "raise it, or take more --steps"
            raise UserError(f"--max-timestep: no step is below {job.max_timestep:g}; {lower}")
        return steps
    t = torch.linspace(1, 0, job.steps + 1)[:-1]
    # Who has never seen the ends is not taken to them.
    schedule = utils.get_ddpm_schedule if model.min_t else utils.get_spliced_ddpm_cosine_schedule
    steps = schedule(t)
    if job.init is not None:
        steps = steps[steps < job.starting_timestep]
        if not len(steps):
            lower = "raise it, or take more --steps"
            text = f"--starting-timestep: no step is below {job.starting_timestep:g}; {lower}"
            raise UserError(text)
    return steps


def counted(callback: Callback | None, first: int, of: int) -> Callback | None:
    """A callback that is told of a part of the steps, from `first` on, and how many there are."""
    if callback is None:
        return None
    return lambda info: callback({**info, "i": first + info["i"], "of": of})


def sample(
    jobs: Sequence[Job],
    models: Models,
    aim: Aim,
    callback: Callback | None = None,
    *,
    cutouts_at_once: int | None = None,
    rows_at_once: int | None = None,
    disable: bool | None = None,
) -> Tensor:
    """One batch: the pictures [B, 3, H, W] of B jobs of one `batch_key`.

    Args:
        aim: where to.
        callback: the samplers'; it is told how many steps there are, too, `of`.
        cutouts_at_once: how many cutouts of each picture CLIP looks at together, by default all.
        rows_at_once: how many pictures and conditions the network is asked for together, likewise.
        disable: tqdm's, of the bar over the steps.

    Raises:
        UserError: there is no step to take.
    """
    job, model = jobs[0], models.model
    device = next(model.parameters()).device
    steps = times(job, model).to(device)
    if job.script == CFG_MODIFY_IMAGE.name:
        return modify(job, model, aim, steps, callback, rows_at_once, disable)
    streams = noise.streams([one.seed for one in jobs])
    width, height = job.size
    x = noise.randn(streams, (3, height, width), device)
    if aim.inits is not None:
        alpha, sigma = utils.t_to_alpha_sigma(steps[0])
        x = aim.inits * alpha + x * sigma
    cond_fn = None
    if job.clip_guidance_scale and models.clip is not None and aim.embeds is not None:
        scales = [one.clip_guidance_scale for one in jobs]
        cutouts = cutouts_of(job, models.clip)
        clip, target = models.clip, aim.embeds
        cond_fn = guidance.make_cond_fn(clip, target, scales, streams, cutouts, cutouts_at_once)
    model_fn, extra_args = conditioned(job, model, aim, rows_at_once)
    return sampling.run_method(
        job.method,
        model_fn,
        x,
        steps,
        job.eta,
        extra_args,
        cond_fn,
        counted(callback, 0, len(steps)),
        noise_sampler=noise.make_noise_sampler(streams),
        disable=disable,
    )


def cutouts_of(job: Job, clip: CLIP) -> guidance.MakeCutouts:
    """How CLIP looks at the pictures of a job."""
    return guidance.MakeCutouts(clip.visual.input_resolution, job.cutn, job.cut_pow)


def conditioned(
    job: Job, model: Any, aim: Aim, rows_at_once: int | None
) -> tuple[Model, dict[str, Any]]:
    """What a sampler calls, and with what it calls it beside x and t."""
    if aim.embeds is None:
        return model, {}
    with sampling.autocast(aim.embeds.device):
        extra_args = model.conditions(aim.embeds.flatten(0, -2))
    if job.script == CLIP_SAMPLE.name or aim.weights is None:
        return model, extra_args
    return make_cfg_model_fn(model, aim.weights, rows_at_once), extra_args


def modify(
    job: Job,
    model: Any,
    aim: Aim,
    steps: Tensor,
    callback: Callback | None,
    rows_at_once: int | None,
    disable: bool | None,
) -> Tensor:
    """Takes pictures to the noise that they come from without words, and back with them.

    Args:
        steps: [N] rising times, from 0.
    """
    assert aim.embeds is not None and aim.weights is not None and aim.inits is not None
    way, back = len(steps) - 1, steps.flip(0)[:-1]
    of = way + len(back)
    _, no_words = conditioned(job, model, Aim(aim.embeds[:1]), None)
    there = counted(callback, 0, of)
    x = sampling.run_reverse(job.method, model, aim.inits, steps, no_words, there, disable=disable)
    model_fn, extra_args = conditioned(job, model, aim, rows_at_once)
    home = counted(callback, way, of)
    return sampling.run_method(
        job.method, model_fn, x, back, 0.0, extra_args, None, home, disable=disable
    )
