"""Sampling: from jobs, loaded models and targets to pictures as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor

from CLIP import guidance
from diffusion import noise, sampling, utils
from diffusion.guidance import make_cfg_model_fn

from ..job.job import Job
from ..job.script import CFG_MODIFY_IMAGE
from ..shell.errors import UserError
from .models import Models
from .targets import Targets, cutouts_of

Callback = Callable[[dict[str, Any]], object]


def times(job: Job, model: Any) -> Tensor:
    """Return the times at which a job's sampler evaluates its model: falling, or rising for a
    picture to modify. Raise UserError if there are none.
    """
    modifies = job.script == CFG_MODIFY_IMAGE.name
    ends = (0, 1) if modifies else (1, 0)
    t = torch.linspace(*ends, job.steps + 1)
    t = t if modifies else t[:-1]
    # A model that has never seen the ends of the schedule is not evaluated there.
    spliced = modifies or not model.min_t
    steps = (utils.get_spliced_ddpm_cosine_schedule if spliced else utils.get_ddpm_schedule)(t)
    if modifies:
        steps = steps[steps <= job.max_timestep]
    elif job.init is not None:
        steps = steps[steps < job.starting_timestep]
    if len(steps) < 1 + modifies:
        below = job.max_timestep if modifies else job.starting_timestep
        option = "--max-timestep" if modifies else "--starting-timestep"
        raise UserError(f"{option}: no step is below {below:g}; raise it or --steps")
    return steps


def guide_of(
    jobs: Sequence[Job],
    models: Models,
    targets: Targets,
    streams: list[torch.Generator],
    at_once: int | None,
) -> Callable[..., Tensor]:
    """Return the cond_fn by which CLIP, or several CLIPs, guide jobs of one `batch_key`.

    The weights of several are divided by the absolute value of their sum, like those of prompts.
    """
    assert targets.embeds is not None
    job = jobs[0]
    clips, embeds = models.guides or (models.clip,), targets.guides or (targets.embeds,)
    parts = abs(sum(weight for _, weight in job.clip)) * job.cut_batches
    cond_fns = []
    for clip, target, (_, weight) in zip(clips, embeds, job.clip):
        scales = [one.clip_guidance_scale * weight / parts for one in jobs]
        cutouts = cutouts_of(job, clip)
        cond_fns.append(guidance.make_cond_fn(clip, target, scales, streams, cutouts, at_once))
    return guidance.sum_cond_fns(cond_fns, job.cut_batches)


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
    job, model_fn = jobs[0], models.model
    steps = times(job, model_fn).to(device)
    of, taken = len(steps), count()

    def tell(info: dict[str, Any]) -> None:
        if callback is not None:
            callback({**info, "i": next(taken), "of": of})

    def conditions(embeds: Tensor) -> dict[str, Any]:
        with sampling.autocast(device):
            found: dict[str, Any] = models.model.conditions(embeds.flatten(0, -2))
        return found

    streams = noise.streams([one.seed for one in jobs])
    cond_fn, extra_args = None, {}
    if targets.embeds is not None:
        extra_args = conditions(targets.embeds)
        if targets.weights is not None:
            if len(targets.weights) > 1:
                extra_args.pop("things", None)  # of no prompt, beside prompts
            model_fn = make_cfg_model_fn(model_fn, targets.weights, rows_at_once)
        elif job.clip_guidance_scale and models.clip is not None:
            cond_fn = guide_of(jobs, models, targets, streams, cutouts_at_once)
    if job.script == CFG_MODIFY_IMAGE.name:
        # To the noise that the pictures come from without words, and back with words.
        assert targets.embeds is not None and targets.inits is not None
        of = 2 * (len(steps) - 1)
        no_words = conditions(targets.embeds[0])
        x = sampling.run_reverse(
            job.method, models.model, targets.inits, steps, no_words, tell, disable=disable
        )
        steps = steps.flip(0)[:-1]
    else:
        width, height = job.size
        x = noise.randn(streams, (3, height, width), device)
        if targets.inits is not None:
            alpha, sigma = utils.t_to_alpha_sigma(steps[0])
            x = targets.inits * alpha + x * sigma
    return sampling.run_method(
        job.method,
        model_fn,
        x,
        steps,
        job.eta,
        extra_args,
        cond_fn,
        tell,
        noise_sampler=noise.make_noise_sampler(streams),
        disable=disable,
    )
