"""Warnings about options that are allowed but probably a mistake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from diffusion.methods import MIN_STEPS, MIN_STEPS_BY_CLIP, MIN_STEPS_BY_WORDS

from .options import job_options
from .script import CFG_MODIFY_IMAGE, CLIP_SAMPLE

if TYPE_CHECKING:
    from .job import Job


def hints(job: Job, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield warnings about a job and the options by name that it was made from."""
    minimum = MIN_STEPS_BY_CLIP if job.clip_guidance_scale else MIN_STEPS
    if job.script != CLIP_SAMPLE.name and job.asks_clip:
        minimum = MIN_STEPS_BY_WORDS
    needed = minimum.get(job.method, 0)
    modifies = job.script == CFG_MODIFY_IMAGE.name
    from_noise = job.max_timestep == 1 if modifies else job.init is None
    if job.steps < needed and from_noise:
        yield (
            f"warning: --steps: {job.method} needs at least {needed} steps to get from noise to a "
            f"picture, not {job.steps}; raise --steps, or use --method ddim"
        )
    if given.get("images") == [] and not job.images:
        yield "warning: --images: no image follows"
    for name in ("clip", "cutn", "cut_pow", "cut_batches", "guide_between"):
        row = job_options(CLIP_SAMPLE)[name]
        usual = (None, row.default, job.clip)  # the last with --again
        unguided = job.script == CLIP_SAMPLE.name and not job.clip_guidance_scale
        if unguided and given.get(name) not in usual:
            yield f"warning: {row.label} has no effect without prompts and a --clip-guidance-scale"
    if given.get("starting_timestep") is not None and job.init is None:
        yield "warning: --starting-timestep has no effect without --init"
