"""What is no mistake and yet hardly meant."""

from collections.abc import Iterator, Mapping
from typing import Any

from diffusion.methods import LEAST

from .job import Job
from .scripts import CFG_MODIFY_IMAGE


def doubts(job: Job, said: Mapping[str, Any]) -> Iterator[str]:
    """Warnings, each a line.

    Args:
        job: what is asked for.
        said: the options by name that were given for it.
    """
    least = LEAST.get(job.method, 0)
    modifies = job.script == CFG_MODIFY_IMAGE.name
    from_noise = job.max_timestep == 1 if modifies else job.init is None
    if job.steps < least and from_noise:
        yield (
            f"warning: {job.method} needs {least} steps to come out of the noise, and has "
            f"{job.steps}; take more --steps, or --method ddim"
        )
    if said.get("starting_timestep") is not None and job.init is None:
        yield (
            "warning: --starting-timestep changes nothing without a picture to start from; name "
            "one with --init"
        )
