"""What to say where the memory doesn't suffice."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..job.job import Job
from ..job.script import CLIP_SAMPLE
from ..run.request import Execution
from ..shell.program import RunError


@contextmanager
def memory_advice(job: Job, how: Execution, device: object) -> Iterator[None]:
    """Turns running out of memory into a message that says what would help.

    Raises:
        RunError: there was not enough memory.
    """
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On a CPU torch raises a bare RuntimeError.
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not known and "can't allocate memory" not in str(error):
            raise
        remedies = ["a smaller --batch-size"] if how.batch_size > 1 else []
        if job.script != CLIP_SAMPLE.name and how.cfg_batch != 1:
            remedies.append("--cfg-batch 1")
        if job.clip_guidance_scale and not how.checkpointing:
            remedies.append("--checkpointing")
        remedies += ["--clip-guidance-scale 0"] if job.clip_guidance_scale else []
        remedies += ["--model emoji_64"] if job.model != "emoji_64" else []
        advice = f"; what would help: {', '.join(remedies)}" if remedies else ""
        raise RunError(f"out of memory on {device}{advice}") from None
