"""Speed on a GPU beside the original's way: eager, NCHW, in autocast of fp16."""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from CLIP import guidance
from diffusion import get_model, noise, sampling
from diffusion.models import blocks
from v_diffusion.job.job import Job
from v_diffusion.job.prompt import Prompt
from v_diffusion.job.script import CFG_SAMPLE
from v_diffusion.studio import models as loading
from v_diffusion.studio.models import Models, for_drawing
from v_diffusion.studio.sample import sample
from v_diffusion.studio.targets import Targets

from .. import ROOT, STATE, plain
from .bench import Bench, Figures, seconds, wait

ORIGINAL, EAGER, HERE = "original's way", "without graphs", "here"
COMPILED = "compiled"
ROUNDS = 5


def ways(bench: Bench, compiled: bool = False) -> dict[str, Models]:
    """The models of each way, with the same weights."""
    dtype, cuda = bench.dtype("fp16"), bench.device.type == "cuda"
    clip = bench.clip(dtype)
    found = {ORIGINAL: Models(bench.model("cc12m_1", dtype), clip)}
    ours = Models(bench.model("cc12m_1", dtype).to(memory_format=torch.channels_last), clip)
    for way in (HERE, COMPILED) if compiled else (HERE,):
        # Copies share the weights, but not the functions that are put in place of their own.
        mine = Models(*map(copy.copy, ours))
        found[way] = for_drawing(mine, bench.device, False, way == COMPILED)
    if cuda and not compiled:
        with patch.object(loading, "graphed", lambda fn: fn):
            mine = Models(*map(copy.copy, ours))
            found[EAGER] = for_drawing(mine, bench.device, checkpointing=False)
    return found


def batch(bench: Bench, way: str, models: Models, size: int) -> tuple[Any, ...]:
    """x, the conditions and the guidance of a step."""
    streams = noise.streams(range(size))
    x = noise.randn(streams, models.model.shape, bench.device)
    embed = torch.randn(1, models.clip.visual.output_dim, generator=streams[0])
    target = embed.to(bench.device).expand(size, -1)
    make = plain.make_cond_fn if way == ORIGINAL else guidance.make_cond_fn
    cond_fn: Any = make(models.clip, target, 500.0, streams)
    return x, models.model.conditions(target), cond_fn


@contextmanager
def as_it_does(way: str) -> Iterator[None]:
    """Compute in NCHW, and normalise by PyTorch's own kernel, where that is the way."""
    if way != ORIGINAL:
        yield
        return

    def group_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        weight, bias = (a.view(-1, x.shape[1], 1, 1) for a in (weight, bias))
        return torch.addcmul(bias, F.group_norm(x, 1), weight)

    in_format = patch.object(blocks, "in_format", lambda x: x)
    with in_format, patch.object(blocks, "group_norm", group_norm):
        yield


def task_of(bench: Bench, way: str, models: Models, size: int, guided: bool, n: int) -> Any:
    """A function that takes n steps of a batch, and returns the pictures."""
    x, conditions, cond_fn = batch(bench, way, models, size)
    steps = torch.linspace(0.9, 0.5, n, device=bench.device)

    def task() -> Tensor:
        with as_it_does(way):
            args = (models.model, x, steps, 0.0, conditions, cond_fn if guided else None)
            return sampling.cond_sample(*args, disable=True)

    return task


def compare(bench: Bench, found: dict[str, Models], size: int, guided: bool) -> Figures:
    """The seconds of a step each way, in turn, and how far each picture is from ours."""
    n = 1 if bench.dry else 10 if not guided else 4
    name = f"{'guided step' if guided else 'step'}, batch {size}"
    tasks, peaks, drawn = {}, {}, {}
    for way, models in found.items():
        tasks[way] = task_of(bench, way, models, size, guided, n)
        if not bench.dry:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_reserved()
        begun = time.perf_counter()
        drawn[way] = tasks[way]()
        wait()
        first = time.perf_counter() - begun
        if not bench.dry:
            peaks[way] = (torch.cuda.max_memory_reserved() - before) / 1e9
        if way == COMPILED:
            yield f"{name}, {way}: the first {n} steps", first
    times: dict[str, list[float]] = {way: [] for way in found}
    for _ in range(1 if bench.dry else ROUNDS):
        for way, measured in times.items():
            measured.append(seconds(tasks[way]) / n)
    ours = drawn[HERE].float()
    for way, measured in times.items():
        ratios = [a / b for a, b in zip(times[ORIGINAL], measured)] if ORIGINAL in times else [0.0]
        figures = {"ms": median(measured) * 1e3, "least": min(measured) * 1e3}
        figures |= {"times as fast": median(ratios), "GB": peaks.get(way, 0.0)}
        difference = (drawn[way].float() - ours).norm() / ours.norm()
        yield f"{name}, {way}", {**figures, "off": float(difference)}


def steps(bench: Bench) -> Figures:
    """Steps of CC12M_1, and the share of what the card can do that its forward takes."""
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
    """Compiled steps, each beside the same in a graph."""
    if bench.dry:
        return
    found = ways(bench, compiled=True)
    for size, guided in ((1, False), (16, False), (1, True)):
        yield from compare(bench, found, size, guided)


def images(bench: Bench) -> Figures:
    """Images per hour of cc12m_1_cfg in 50 steps of PLMS."""
    n = 2 if bench.dry else 50
    for size in (1,) if bench.dry else (1, 4, 16):
        jobs = [
            Job(
                [Prompt("a fox", 3.0)],
                model="cc12m_1_cfg",
                script=CFG_SAMPLE.name,
                steps=n,
                seed=seed,
                size=(64, 64) if bench.dry else (256, 256),
            )
            for seed in range(size)
        ]
        for way, models in ways(bench).items():
            embed = torch.randn(size, models.clip.visual.output_dim, device=bench.device)
            weights = torch.tensor([[-2.0], [3.0]], device=bench.device).expand(2, size)
            targets = Targets(torch.stack([torch.zeros_like(embed), embed]), weights)
            task = partial(sample, jobs, models, targets, bench.device, disable=True)
            with as_it_does(way):
                yield f"an hour, batch {size}, {way}", 3600 * size / seconds(task)


def drawing(bench: Bench, models: Models, method: str, scale: float) -> Callable[[Any], Tensor]:
    """A function of a callback that draws two pictures of emoji_64's kind in four steps."""
    options: dict[str, Any] = {"model": "cc12m_1", "method": method, "steps": 4}
    options |= {"size": (64, 64) if bench.dry else (256, 256), "clip_guidance_scale": scale}
    jobs = [Job(["a"], **options, seed=seed) for seed in (0, 1)]
    embeds = torch.randn(2, models.clip.visual.output_dim, device=bench.device)
    return lambda told: sample(jobs, models, Targets(embeds), bench.device, told, disable=True)


def waits(bench: Bench) -> Figures:
    """Whether any sampler's loop makes the host wait for the device: nothing, or the error."""
    found = {way: models for way, models in ways(bench).items() if way != ORIGINAL}
    for way, models in found.items():
        for method in sampling.METHODS[:1] if bench.dry else sampling.METHODS:
            for scale in (0.0, 500.0):
                draw = drawing(bench, models, method, scale)
                draw(None)  # captures
                if not bench.dry:
                    wait()

                def told(info: dict[str, Any]) -> None:
                    if not bench.dry and info["i"] == 0:
                        torch.cuda.set_sync_debug_mode("error")

                try:
                    draw(told)
                    outcome = "no"
                except RuntimeError as error:
                    outcome = str(error).splitlines()[0]
                finally:
                    if not bench.dry:
                        torch.cuda.set_sync_debug_mode("default")
                yield f"{method}, guidance {scale:g}, {way}", outcome


def kernels(bench: Bench) -> Figures:
    """The kernels that take the most time, and the copies between host and device."""
    models = ways(bench)[HERE]
    for size in (1,) if bench.dry else (1, 16):
        for guided in (False, True):
            task = task_of(bench, HERE, models, size, guided, 2)
            task()
            wait()
            with torch.profiler.profile() as profile:
                task()
                wait()
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
    """The seconds of whole commands, and of what all of them begin with."""
    script = ["clip_sample.py", "red apple", "--seed", "0", "--device", str(bench.device)]
    script += ["--output", str(STATE / "out.png")]
    step = [*script, "--steps", "1"]
    first = f"import torch; torch.ones(9, device='{bench.device}').sum().item()"
    commands = {"torch and a kernel": ["-c", first]}
    commands["a step of emoji_64"] = [*step, "--model", "emoji_64"]
    STATE.mkdir(exist_ok=True)
    if not bench.dry:
        commands["a picture of emoji_64"] = [*script, "--model", "emoji_64"]
        own = []
        for option, name in (("checkpoint", "cc12m_1"), ("clip-checkpoint", "clip_vit_b_16")):
            torch.save(bench.state_dict(name), STATE / f"{name}.pth")
            own += [f"--{option}", str(STATE / f"{name}.pth")]
        commands["a step of cc12m_1"] = [*step, *own, "--no-metadata"]
    for name, command in commands.items():
        begun = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
        yield name, time.perf_counter() - begun
