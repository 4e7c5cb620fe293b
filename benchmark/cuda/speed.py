"""Speed on a GPU beside the original's way: eager, NCHW, in autocast of fp16."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from CLIP import guidance
from diffusion import get_model, sampling
from diffusion.models import blocks
from v_diffusion.job.job import Job
from v_diffusion.job.prompt import Prompt
from v_diffusion.studio import models as loading
from v_diffusion.studio.models import Models, for_drawing
from v_diffusion.studio.sample import sample
from v_diffusion.studio.targets import Targets

from .. import SCRIPT, plain, weights
from ..timing import in_turn, run, seconds
from ..worker import prepared
from .bench import Bench, Figures

ORIGINAL, EAGER, HERE = "original's way", "without graphs", "here"
COMPILED = "compiled"
ROUNDS = 5


def card(bench: Bench) -> Figures:
    """Tell the versions, and the card's limits as PyTorch reaches them."""
    yield "torch", torch.__version__
    yield "cores", os.cpu_count()
    if bench.dry:
        return
    yield "gpu", torch.cuda.get_device_name()
    yield "cuda", torch.version.cuda
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.float16) for _ in range(2))
    yield "fp16 TFLOP/s", 2 * 8192**3 / warm_seconds(lambda: a @ b, 10) / 1e12
    big = torch.empty(1 << 31, device="cuda", dtype=torch.uint8)
    yield "copies GB/s", 2 * big.numel() / warm_seconds(lambda: big.clone(), 5) / 1e9


def warm_seconds(task: Callable[[], object], times: int = 1) -> float:
    """Return the seconds of a task that has been done before."""
    seconds(task)
    return seconds(task, times)


def ways(bench: Bench, compiled: bool = False) -> dict[str, Models]:
    """Return the models of each way, with the same weights."""
    dtype = bench.dtype("fp16")
    clip = bench.clip(dtype)
    original: Any = bench.model("cc12m_1", dtype)
    original.forward = as_the_original(original.forward)
    found = {ORIGINAL: Models(original, clip)}
    ours = Models(bench.model("cc12m_1", dtype).to(memory_format=torch.channels_last), clip)
    for way in (HERE, COMPILED) if compiled else (HERE,) if bench.dry else (HERE, EAGER):
        # Copies share the weights, but not the functions that are put in place of their own.
        mine = Models(*map(copy.copy, ours))
        without = patch.object(loading, "graphed", lambda fn: fn)
        with without if way == EAGER else nullcontext():
            found[way] = for_drawing(mine, bench.device, False, way == COMPILED)
    return found


def as_the_original(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make a model compute in NCHW, and normalise by PyTorch's own kernel."""

    def group_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        weight, bias = (a.view(-1, x.shape[1], 1, 1) for a in (weight, bias))
        return torch.addcmul(bias, F.group_norm(x, 1), weight)

    def call(*args: Any, **kwargs: Any) -> Tensor:
        in_format = patch.object(blocks, "in_format", lambda x: x)
        with in_format, patch.object(blocks, "group_norm", group_norm):
            return fn(*args, **kwargs)

    return call


def task_of(
    bench: Bench, way: str, models: Models, size: int, guided: bool, n: int
) -> Callable[[], Tensor]:
    """Return a function that takes n steps of a batch, and returns the pictures."""
    make = plain.make_cond_fn if way == ORIGINAL else guidance.make_cond_fn
    times = torch.linspace(0.9, 0.5, n, device=bench.device)
    return prepared(models, range(size), times, make if guided else None)


def compare(bench: Bench, found: dict[str, Models], size: int, guided: bool) -> Figures:
    """Measure the seconds of a step each way, and how far each picture is from ours."""
    n = 1 if bench.dry else 4 if guided else 10
    tasks, peaks, drawn = {}, {}, {}
    for way, models in found.items():
        task = task_of(bench, way, models, size, guided, n)
        if not bench.dry:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_reserved()
        drawn[way] = task().float()
        peaks[way] = (torch.cuda.max_memory_reserved() - before) / 1e9
        tasks[way] = partial(seconds, task)
    for way, measured in (times := in_turn(tasks, 1 if bench.dry else ROUNDS)).items():
        figures = {"ms": median(measured) / n * 1e3, "least": min(measured) / n * 1e3}
        ratios = [a / b for a, b in zip(times[ORIGINAL], measured)]
        figures |= {"times as fast": median(ratios), "GB": peaks[way]}
        difference = (drawn[way] - drawn[HERE]).norm() / drawn[HERE].norm()
        name = f"{'guided step' if guided else 'step'}, batch {size}, {way}"
        yield name, {**figures, "off": float(difference)}


def steps(bench: Bench) -> Figures:
    """Measure steps of CC12M_1, and count what its forward computes."""
    found = ways(bench)
    for size in (1,) if bench.dry else (1, 4, 16):
        for guided in (False, True):
            yield from compare(bench, found, size, guided)
    with torch.device("meta"):
        model = get_model("cc12m_1")()
        x = torch.empty(1, *model.shape)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(x, x[:, 0, 0, 0], torch.empty(1, model.embed_dim))
    yield "TFLOP of a forward", counter.get_total_flops() / 1e12


def compiled(bench: Bench) -> Figures:
    """Measure compiled steps, each beside the same in a graph."""
    if bench.dry:
        return
    found = ways(bench, compiled=True)
    for size, guided in ((1, False), (16, False), (1, True)):
        yield from compare(bench, found, size, guided)


def drawing(bench: Bench, models: Models, size: int, **options: Any) -> Callable[..., Tensor]:
    """Return a function of a callback that draws pictures of random embeddings by jobs."""
    side = 64 if bench.dry else 256
    how: dict[str, Any] = {"model": "cc12m_1_cfg", "size": (side, side), **options}
    jobs = [Job([Prompt("a fox", 3.0)], seed=seed, **how) for seed in range(size)]
    embeds = torch.randn(size, models.clip.visual.output_dim, device=bench.device)
    targets = Targets(embeds)
    if jobs[0].script != "clip_sample":
        both = torch.stack([torch.zeros_like(embeds), embeds])
        targets = Targets(both, torch.tensor([[-2.0], [3.0]], device=bench.device).expand(2, size))
    return partial(sample, jobs, models, targets, bench.device, disable=True)


def images(bench: Bench) -> Figures:
    """Measure images per hour of cc12m_1_cfg in 50 steps of PLMS."""
    found = ways(bench)
    how = {"script": "cfg_sample", "steps": 2 if bench.dry else 50}
    for size in (1,) if bench.dry else (1, 4, 16):
        for way, models in found.items():
            spent = warm_seconds(drawing(bench, models, size, **how))
            yield f"an hour, batch {size}, {way}", 3600 * size / spent


def waits(bench: Bench) -> Figures:
    """Tell if any sampler's loop makes the host wait for the device: "no", or the error."""

    def forbid(info: dict[str, Any]) -> None:
        if info["i"] == 0 and not bench.dry:
            torch.cuda.set_sync_debug_mode("error")

    for way, models in ways(bench).items():
        for method in sampling.METHODS[:1] if bench.dry else sampling.METHODS:
            for scale in () if way == ORIGINAL else (0.0, 500.0):
                draw = drawing(bench, models, 2, method=method, steps=4, clip_guidance_scale=scale)
                seconds(draw)  # captures
                outcome = "no"
                try:
                    draw(forbid)
                except RuntimeError as error:
                    outcome = str(error).splitlines()[0]
                finally:
                    if not bench.dry:
                        torch.cuda.set_sync_debug_mode("default")
                yield f"{method}, guidance {scale:g}, {way}", outcome


def kernels(bench: Bench) -> Figures:
    """Profile the kernels that take the most time, and copies between host and device."""
    models = ways(bench)[HERE]
    for size in (1,) if bench.dry else (1, 16):
        for guided in (False, True):
            task = task_of(bench, HERE, models, size, guided, 2)
            seconds(task)
            with torch.profiler.profile() as profile:
                seconds(task)
            events = profile.key_averages()
            spent = {one.key: getattr(one, "self_device_time_total", 0.0) / 2e3 for one in events}
            spent = {name: ms for name, ms in spent.items() if ms}
            name = f"{'guided step' if guided else 'step'}, batch {size}"
            yield f"{name}: all, ms", sum(spent.values())
            copies = {one.key: one.count for one in events if one.key.startswith("Memcpy")}
            yield f"{name}: copies", copies
            for kernel, ms in sorted(spent.items(), key=lambda item: -item[1])[:15]:
                yield f"{name}: {kernel[:100]}", ms


def starts(bench: Bench) -> Figures:
    """Measure the seconds of whole commands, and of what all of them begin with."""
    device = str(bench.device)
    yield (
        "torch and a kernel",
        run(["-c", f"import torch; torch.ones(9, device='{device}').sum().item()"]).seconds,
    )
    script = [SCRIPT, "red apple", "--seed", "0", "--device", device]
    emoji = [*script, "--model", "emoji_64"]
    yield "a step of emoji_64", run([*emoji, "--steps", "1"]).seconds
    if not bench.dry:
        yield "a picture of emoji_64", run(emoji).seconds
        large = [*script, *weights.cc12m_1().options, "--no-metadata"]
        yield "a step of cc12m_1", run([*large, "--steps", "1"]).seconds
