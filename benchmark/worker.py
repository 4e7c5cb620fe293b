"""Steps of a model in a process of its own.

What is packed or kept in memory is kept for the whole process, so that each way to draw has one.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing import get_context
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from CLIP import guidance
from diffusion import noise, sampling
from v_diffusion.job.job import Job
from v_diffusion.shell.program import keep_freed_memory, wait_briefly
from v_diffusion.studio.memory import FEW_CUTOUTS
from v_diffusion.studio.models import Models
from v_diffusion.studio.studio import Studio

from . import PLAIN, Files, plain
from .timing import Taken, taken

CHECKPOINTING, BF16 = "--checkpointing", "--precision bf16"
SCALE = 500.0
TIMES = torch.tensor([0.5])


def prepared(
    models: Models,
    seeds: Sequence[int],
    times: Tensor,
    make_cond_fn: Callable[..., Any] | None = None,
    shape: tuple[int, ...] | None = None,
) -> Callable[[], Tensor]:
    """Return a function that draws pictures towards an embedding by DDIM, at times on their device.

    Args:
        make_cond_fn: guides them, as `CLIP.guidance.make_cond_fn`; by default nothing does.
        shape: of a picture, by default the model's own.
    """
    streams = noise.streams(seeds)
    x = noise.randn(streams, shape or models.model.shape, times.device)
    stream = torch.Generator().manual_seed(9)
    embed = torch.randn(1, models.clip.visual.output_dim, generator=stream)
    target = embed.to(times.device).expand(len(seeds), -1)
    cond_fn = None if make_cond_fn is None else make_cond_fn(models.clip, target, SCALE, streams)
    args = models.model, x, times, 0.0, models.model.conditions(target), cond_fn
    return partial(sampling.cond_sample, *args, disable=True)


@cache
def load(way: str, files: Files) -> tuple[Models, Callable[..., Any]]:
    """Return the models of a way to draw, and what makes their guidance."""
    if way == PLAIN:
        models = Models(plain.load_model(files.name, files.model), plain.load_clip(files.clip))
        return models, plain.make_cond_fn
    keep_freed_memory()
    less = way == CHECKPOINTING
    studio = Studio("cpu", checkpointing=less, precision="bf16" if way == BF16 else "fp32")
    own: Any = {"checkpoint": str(files.model), "clip_checkpoint": str(files.clip)}
    models = studio.load(Job(["a fox"], model=files.name, **own))
    return models, partial(guidance.make_cond_fn, at_once=FEW_CUTOUTS if less else None)


def step(
    way: str,
    files: Files,
    guided: bool,
    batch: int = 1,
    size: tuple[int, int] | None = None,
    cutouts: int = guidance.CUTOUTS,
) -> Taken:
    """Return what a step takes as the sampler takes it.

    Args:
        size: width and height of the pictures, by default the model's own.
    """
    models, make = load(way, files)
    shape = None if size is None else (3, *size[::-1])
    if cutouts != guidance.CUTOUTS:
        side = models.clip.visual.input_resolution
        make = partial(make, make_cutouts=guidance.MakeCutouts(side, cutouts))
    return taken(prepared(models, range(batch), TIMES, make if guided else None, shape))


@contextmanager
def process(way: str) -> Iterator[Callable[..., Taken]]:
    """Give the function `step` of a way, in a process of its own."""
    quiet: Any = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    with patch.dict(os.environ):
        if way != PLAIN:  # as the program does
            wait_briefly()
        pool = ProcessPoolExecutor(1, get_context("spawn"), **quiet)
        pool.submit(os.getpid).result()  # starts it
    with pool:
        yield lambda *args, **how: pool.submit(step, way, *args, **how).result()
