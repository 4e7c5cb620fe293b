"""Sampling: from jobs, loaded models and targets to pictures as tensors."""

from collections.abc import Callable, Sequence
from itertools import accumulate, count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from CLIP import guidance as clip_guidance
from diffusion import guidance, noise, sampling, utils
from diffusion.guidance import CondFn, Model

from ..job.job import WHOLE, Job
from ..job.script import CFG_MODIFY_IMAGE, CLIP_SAMPLE
from ..shell.errors import UserError
from .models import Models
from .targets import Targets, cutouts_of

Callback = Callable[[dict[str, Any]], object]
GUIDED = 5  # steps without CLIP take about as long as one that it guides
# Added to kept pixels: grey levels are cut to whole numbers, and rounding would lose one in four.
TO_KEEP = 1e-4


def times(job: Job, model: Any) -> Tensor:
    """Return the times of a job's steps: falling, but rising for a picture to modify."""
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
    """Return the cond_fn by which CLIP, or several with weights like prompts', guide jobs."""
    assert targets.embeds is not None
    job = jobs[0]
    clips, embeds = models.guides or (models.clip,), targets.guides or (targets.embeds,)
    parts = abs(sum(weight for _, weight in job.clip)) * job.cut_batches
    cond_fns = []
    for clip, target, (_, weight) in zip(clips, embeds, job.clip):
        scales = [one.clip_guidance_scale * weight / parts for one in jobs]
        cutouts = cutouts_of(job, clip)
        cond_fns.append(clip_guidance.make_cond_fn(clip, target, scales, streams, cutouts, at_once))
    return clip_guidance.sum_cond_fns(cond_fns, job.cut_batches)


def shares(job: Job, steps: Tensor) -> list[float]:
    """Return about the share of a job's work that is done with each of its steps."""
    rows = 1 if job.script == CLIP_SAMPLE.name else 1 + len(job.prompts) + len(job.images)
    guided = GUIDED if job.clip_guidance_scale else rows
    first, last = job.guide_between or WHOLE
    work = [guided if first <= t <= last else 1 for t in steps.tolist()]
    if job.script == CFG_MODIFY_IMAGE.name:  # there without words, and back
        work = [1] * (len(steps) - 1) + work[:0:-1]
    total = sum(work)
    return [done / total for done in accumulate(work)]


def adapted(
    job: Job, targets: Targets, model: Model, cond_fn: CondFn | None
) -> tuple[Model, CondFn | None]:
    """Return a model and CLIP's guidance of it with --threshold, --mask and --guide-between."""
    if (share := job.threshold) is not None:
        model = guidance.make_pred_model_fn(model, lambda pred, t: guidance.threshold(pred, share))
    if targets.masks is not None and targets.inits is not None:
        starts = targets.masks * job.starting_timestep
        model = guidance.make_mask_model_fn(model, targets.inits, starts)
        cond_fn = None if cond_fn is None else guidance.make_mask_cond_fn(cond_fn, starts)
    if cond_fn is None or job.guide_between is None:
        return model, cond_fn
    guided = guidance.make_cond_model_fn(model, cond_fn)
    return guidance.make_interval_model_fn(guided, model, *job.guide_between), None


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
        callback: the samplers'; its dict also has `of`, the number of steps, and `done`, about the
            share of the work that is done with this one.
        cutouts_at_once: the cutouts of each picture that CLIP sees together, by default all.
        rows_at_once: the images times conditions evaluated together, by default all.

    Raises:
        UserError: there is no step to take.
    """
    job, model_fn = jobs[0], models.model
    steps = times(job, model_fn)
    done, taken = shares(job, steps), count()
    steps = steps.to(device)

    def tell(info: dict[str, Any]) -> None:
        if callback is not None:
            i = next(taken)
            callback({**info, "i": i, "of": len(done), "done": done[i]})

    def conditions(embeds: Tensor) -> dict[str, Any]:
        with guidance.autocast(device):
            found: dict[str, Any] = models.model.conditions(embeds.flatten(0, -2))
        return found

    streams = noise.streams([one.seed for one in jobs])
    cond_fn, extra_args = None, {}
    if targets.embeds is not None:
        extra_args = conditions(targets.embeds)
        if targets.weights is not None:
            if len(targets.weights) > 1:
                extra_args.pop("things", None)  # of no prompt, beside prompts
            model_fn = guidance.make_cfg_model_fn(model_fn, targets.weights, rows_at_once)
            if job.guide_between is not None:
                # Outside of it the prompts are one, as in clip_sample.py.
                together = (targets.embeds * targets.weights[..., None])[1:].sum(0)
                words = conditions(F.normalize(together, dim=-1))
                model_fn = guidance.make_interval_model_fn(
                    model_fn, lambda x, t, **_: models.model(x, t, **words), *job.guide_between
                )
        elif job.clip_guidance_scale and models.clip is not None:
            cond_fn = guide_of(jobs, models, targets, streams, cutouts_at_once)
    model_fn, cond_fn = adapted(job, targets, model_fn, cond_fn)
    if job.script == CFG_MODIFY_IMAGE.name:
        # To the noise that the pictures come from without words, and back with words.
        assert targets.embeds is not None and targets.inits is not None
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
    drawn = sampling.run_method(
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
    if targets.masks is None or targets.inits is None:
        return drawn
    return torch.where(targets.masks > 0, drawn, targets.inits + TO_KEEP)
