"""A configuration of the models in a process of its own, and the times that it is asked for.

Configurations take turns, so that whatever else the machine does hits all of them alike; each has
its own process, because what is packed, compiled or kept in memory is kept for the whole process.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from CLIP import guidance
from diffusion import noise, sampling
from v_diffusion.shell import program
from v_diffusion.shell.program import SPINS, wait_briefly
from v_diffusion.studio.models import Models, for_drawing, load_clip, load_model

from . import Files, plain
from .memory import Peak

PLAIN, OURS, COMPILED, CHECKPOINTING = "plain", "ours", "compiled", "checkpointing"
BF16 = "bf16"  # ours, in that precision
TIME = 0.5  # of the steps
# Sides, and channels in and out, of convolutions large enough that nothing but arithmetic counts.
Size = tuple[int, int]  # width and height
LARGE = [(128, 256), (64, 512), (32, 1024)]


class Configuration:
    """The models as one kind has them, and what can be asked of them."""

    def __init__(self, kind: str, files: Files, size: Size | None) -> None:
        self.make_cond_fn: Callable[..., Any] = guidance.make_cond_fn
        if kind == PLAIN:
            self.model: Any = plain.load_model(files.name, files.model)
            self.clip = plain.load_clip(files.clip)
            self.make_cond_fn = plain.make_cond_fn
        else:  # as the program has them
            device = torch.device("cpu")
            program.keep_freed_memory()
            dtype = torch.bfloat16 if kind == BF16 else torch.float32
            models = Models(
                load_model(files.name, files.model, device, dtype),
                load_clip(files.clip, device, dtype),
            )
            if kind != COMPILED:
                models = for_drawing(models, device, kind == CHECKPOINTING, dtype=dtype)
            self.model, self.clip = models.model, models.clip
        self.called: Callable[..., Tensor] = self.model
        self.shape = self.model.shape if size is None else (3, *size[::-1])
        if kind == COMPILED:
            self.called = plain.compile(self.model)
        if kind == CHECKPOINTING:
            self.make_cond_fn = partial(guidance.make_cond_fn, at_once=guidance.CUTOUTS // 4)

    def batch(
        self, size: int, cutouts: int = guidance.CUTOUTS
    ) -> tuple[Tensor, Tensor, dict[str, Tensor], Callable[..., Tensor]]:
        """x, the steps (one), the conditions and the guidance."""
        streams = noise.streams(range(size))
        x = noise.randn(streams, self.shape, torch.device("cpu"))
        embed = torch.randn(1, self.clip.visual.output_dim, generator=streams[0]).expand(size, -1)
        options: dict[str, Any] = {}
        if cutouts != guidance.CUTOUTS:
            side = self.clip.visual.input_resolution
            options["make_cutouts"] = guidance.MakeCutouts(side, cutouts)
        cond_fn = self.make_cond_fn(self.clip, embed, 500.0, streams, **options)
        return x, torch.tensor([TIME]), self.model.conditions(embed), cond_fn

    def step(self, guided: bool, size: int = 1, cutouts: int = guidance.CUTOUTS) -> dict[str, Any]:
        """One step as the sampler takes it: seconds, and the peak of anonymous memory in bytes."""
        x, steps, conditions, cond_fn = self.batch(size, cutouts)
        args = (self.called, x, steps, 0.0, conditions)
        peak, begun = Peak(), time.perf_counter()
        sampling.cond_sample(*args, cond_fn) if guided else sampling.sample(*args)
        return {"seconds": time.perf_counter() - begun, "peak": peak.stop()}

    def parts(self) -> dict[str, float]:
        """The seconds of the parts of a guided step."""
        x, (t,), conditions, _ = self.batch(1)
        cutouts_of = guidance.MakeCutouts(self.clip.visual.input_resolution, guidance.CUTOUTS)
        normalize = guidance.make_normalize(x.device)
        target = conditions["clip_embed"]
        moments = [time.perf_counter()]
        x.requires_grad_()
        v = self.model(x, t[None], **conditions)
        moments.append(time.perf_counter())
        cutouts = normalize(cutouts_of((x - v + 1) / 2, noise.streams([0])))
        moments.append(time.perf_counter())
        seen = cutouts.detach().requires_grad_()
        loss = guidance.spherical_dist_loss(self.clip.encode_image(seen), target).sum()
        moments.append(time.perf_counter())
        (grad,) = torch.autograd.grad(loss, seen)
        moments.append(time.perf_counter())
        torch.autograd.grad(cutouts, x, grad)
        moments.append(time.perf_counter())
        names = ("model", "cutouts", "CLIP", "CLIP backward", "model and cutouts backward")
        return {name: b - a for name, a, b in zip(names, moments, moments[1:])}

    def operators(self) -> dict[str, float]:
        """The seconds that each operator takes in a forward, but for the small ones."""
        x, (t,), conditions, _ = self.batch(1)
        with torch.no_grad(), torch.profiler.profile() as profile:
            self.model(x, t[None], **conditions)
        times = {event.key: event.self_cpu_time_total / 1e6 for event in profile.key_averages()}
        enough = sum(times.values()) / 500
        ranked = sorted(times.items(), key=lambda item: -item[1])
        return {name: spent for name, spent in ranked if spent > enough}

    def threads(self) -> int:
        return torch.get_num_threads()

    def limit(self) -> float:
        """FLOP/s of the fastest of some large channels_last convolutions."""
        best = 0.0
        for side, channels in LARGE:
            x = torch.randn(1, channels, side, side).to(memory_format=torch.channels_last)
            weight = torch.randn(channels, channels, 3, 3).to(memory_format=torch.channels_last)
            flops = 2 * 9 * channels**2 * side**2
            with torch.no_grad():
                for _ in range(4):
                    begun = time.perf_counter()
                    torch.nn.functional.conv2d(x, weight, padding=1)
                    best = max(best, flops / (time.perf_counter() - begun))
        return best


def serve(connection: Connection, kind: str, files: Files, size: Size | None) -> None:
    """Answers what it is asked, one thing after the other, until nobody asks any more."""
    with suppress(EOFError, KeyboardInterrupt):
        configuration = Configuration(kind, files, size)
        while True:
            task, arguments = connection.recv()
            connection.send(getattr(configuration, task)(*arguments))


class Worker:
    """A configuration in another process."""

    def __init__(self, kind: str, files: Files, size: Size | None = None) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        if kind != PLAIN:  # as the program does
            wait_briefly()
        self.process = context.Process(target=serve, args=(theirs, kind, files, size), daemon=True)
        self.process.start()
        os.environ.pop(SPINS, None)
        theirs.close()

    def __call__(self, task: str, *arguments: Any) -> Any:
        """
        Raises:
            EOFError: the process has died; what it said of that is on stderr.
        """
        self.connection.send((task, arguments))
        return self.connection.recv()

    def close(self) -> None:
        self.connection.close()
        self.process.join()
