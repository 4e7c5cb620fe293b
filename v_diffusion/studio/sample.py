"""Sampling: from jobs, loaded models and targets to pictures as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from CLIP import guidance
from diffusion import noise, sampling, utils
from diffusion.guidance import Model, make_cfg_model_fn

from ..job.job import Job
from ..job.script import CFG_MODIFY_IMAGE, CLIP_SAMPLE
from ..shell.errors import UserError
from .models import Models
from .targets import Targets, cutouts_of

Callback = Callable[[dict[str, Any]], object]


def times(job: Job, model: Any) -> Tensor:
    """Return the times at which a job's sampler evaluates its model: falling, or rising for a
    picture to modify.

    Raises:
        UserError: there are none.
    """
    if job.script == CFG_MODIFY_IMAGE.name:
        steps = utils.get_spliced_ddpm_cosine_schedule(torch.linspace(0, 1, job.steps + 1))
        steps = steps[steps <= job.max_timestep]
        if len(steps) < 2:
            text = f"no step is below {job.max_timestep:g}; raise it or --steps"
            raise UserError(f"--max-timestep: {text}")
        return steps
    t = torch.linspace(1, 0, job.steps + 1)[:-1]
    # A model that has never seen the ends of the schedule is not evaluated there.
    schedule = utils.get_ddpm_schedule if model.min_t else utils.get_spliced_ddpm_cosine_schedule
    steps = schedule(t)
    if job.init is not None:
        steps = steps[steps < job.starting_timestep]
        if not len(steps):
            text = f"no step is below {job.starting_timestep:g}; raise it or --steps"
            raise UserError(f"--starting-timestep: {text}")
    return steps


def counted(callback: Callback | None, first: int, of: int) -> Callback | None:
    """Return a callback for steps from `first` on, which adds the number `of` all steps."""
    if callback is None:
        return None
    return lambda info: callback({**info, "i": first + info["i"], "of": of})


def sample(
    jobs: Sequence[Job],
    models: Models,
    targets: Targets,
    device: torch.device,
    callback: Callback | None = None,
    *,
    cutouts_at_once: int | None = None,
    rows_at_once: int | None = None,
    disable: bool | None = None,
) -> Tensor:
    """Return the pictures [B, 3, H, W] of B jobs of one `batch_key`, in about -1 to 1.

    Args:
        callback: the samplers'; its dict also has `of`, the number of steps.
        cutouts_at_once: the cutouts of each picture that CLIP sees together, by default all.
        rows_at_once: the images times conditions evaluated together, by default all.
        disable: tqdm's, of the bar over the steps.

    Raises:
        UserError: there is no step to take.
    """
    job, model = jobs[0], models.model
    steps = times(job, model).to(device)
    if job.script == CFG_MODIFY_IMAGE.name:
        return modify(job, model, targets, steps, callback, rows_at_once, disable)
    streams = noise.streams([one.seed for one in jobs])
    width, height = job.size
    x = noise.randn(streams, (3, height, width), device)
    if targets.inits is not None:
        alpha, sigma = utils.t_to_alpha_sigma(steps[0])
        x = targets.inits * alpha + x * sigma
    cond_fn = None
    if job.clip_guidance_scale and models.clip is not None and targets.embeds is not None:
        scales = [one.clip_guidance_scale for one in jobs]
        cutouts = cutouts_of(job, models.clip)
        clip, target = models.clip, targets.embeds
        cond_fn = guidance.make_cond_fn(clip, target, scales, streams, cutouts, cutouts_at_once)
    model_fn, extra_args = conditioned(job, model, targets, rows_at_once)
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


def conditioned(
    job: Job, model: Any, targets: Targets, rows_at_once: int | None
) -> tuple[Model, dict[str, Any]]:
    """Return the function that a sampler calls, and its arguments besides x and t."""
    if targets.embeds is None:
        return model, {}
    with sampling.autocast(targets.embeds.device):
        extra_args = model.conditions(targets.embeds.flatten(0, -2))
    if job.script == CLIP_SAMPLE.name or targets.weights is None:
        return model, extra_args
    return make_cfg_model_fn(model, targets.weights, rows_at_once), extra_args


def modify(
    job: Job,
    model: Any,
    targets: Targets,
    steps: Tensor,
    callback: Callback | None,
    rows_at_once: int | None,
    disable: bool | None,
) -> Tensor:
    """Return pictures taken to the noise that they come from without words, and back with words.

    Args:
        steps: [N] rising times, from 0.
    """
    assert targets.embeds is not None and targets.weights is not None and targets.inits is not None
    way, back = len(steps) - 1, steps.flip(0)[:-1]
    of = way + len(back)
    _, no_words = conditioned(job, model, Targets(targets.embeds[:1]), None)
    there = counted(callback, 0, of)
    x = sampling.run_reverse(
        job.method, model, targets.inits, steps, no_words, there, disable=disable
    )
    model_fn, extra_args = conditioned(job, model, targets, rows_at_once)
    home = counted(callback, way, of)
    return sampling.run_method(
        job.method, model_fn, x, back, 0.0, extra_args, None, home, disable=disable
    )
