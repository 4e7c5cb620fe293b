"""What is no mistake and yet hardly meant."""

from collections.abc import Iterator, Mapping
from typing import Any

from diffusion.methods import MIN_STEPS, MIN_STEPS_BY_CLIP, MIN_STEPS_BY_WORDS

from .job import Job
from .script import CFG_MODIFY_IMAGE, CLIP_SAMPLE

CUTOUTS = ("cutn", "cut_pow")


def min_steps(job: Job) -> int:
    """How many steps a job's method needs to come out of the noise."""
    if job.script != CLIP_SAMPLE.name and job.asks_clip:
        return MIN_STEPS_BY_WORDS.get(job.method, 0)
    least = MIN_STEPS_BY_CLIP if job.clip_guidance_scale else MIN_STEPS
    return least.get(job.method, 0)


def doubts(job: Job, said: Mapping[str, Any]) -> Iterator[str]:
    """Warnings, each a line.

    Args:
        job: what is asked for.
        said: the options by name that were given for it.
    """
    least = min_steps(job)
    modifies = job.script == CFG_MODIFY_IMAGE.name
    from_noise = job.max_timestep == 1 if modifies else job.init is None
    if job.steps < least and from_noise:
        yield (
            f"warning: {job.method} needs {least} steps to come out of the noise, and has "
            f"{job.steps}; take --method ddim, or more --steps"
        )
    if said.get("images") == [] and not job.images:
        yield "warning: --images names none"
    for name in CUTOUTS:
        usual = CLIP_SAMPLE.defaults[name]
        if not job.clip_guidance_scale and said.get(name) not in (None, usual):
            yield (
                f"warning: --{name.replace('_', '-')} changes nothing where CLIP does not guide; "
                "give prompts and a --clip-guidance-scale"
            )
    if said.get("starting_timestep") is not None and job.init is None:
        yield (
            "warning: --starting-timestep changes nothing without a picture to start from; name "
            "one with --init"
        )
