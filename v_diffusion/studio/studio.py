"""The studio: loaded models, and pictures of jobs."""

import os
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL.Image import Image
from torch import Tensor

from CLIP import clip as clip_module
from CLIP import prompts
from CLIP.model import CLIP
from diffusion import get_model, utils

from ..images.inputs import Inputs, open_inputs
from ..images.output import NO_PICTURE
from ..job.job import Job
from ..shell.console import log, printable
from ..shell.errors import RunError, UserError
from ..shell.paths import expand_user
from ..weights import store
from . import memory, vocabulary
from .devices import DTYPES, pick_device, pick_precision, usual_precision
from .models import Models, for_drawing, load_clip, load_model
from .sample import sample, times
from .targets import make_targets

TEXTS = 4096  # embeddings of texts that are kept, some MB
# Beyond it fp32 has whole numbers alone, and a picture goes from -1 to 1.
LARGEST = 2.0**23


class Files(NamedTuple):
    """The files of a model, its CLIP, if it is asked, and those that guide in its place."""

    model: Path
    clip: Path | None
    guides: tuple[Path, ...] = ()


class Studio:
    """Draws jobs, and loads what they need once.

    Args:
        device: where to draw; by default CUDA, else MPS, else the CPU.
        checkpointing: guide in less memory and more time.
        compile: compile the models, where that gains anything.
        cfg_batch: the number of images times conditions evaluated together, by default all.
        precision: "fp32", "bf16" or "fp16", by default fp16 on CUDA and fp32 elsewhere.

    Raises:
        UserError: there is no such device, or it doesn't compute in such a precision.
    """

    def __init__(
        self,
        device: str | torch.device | None = None,
        *,
        checkpointing: bool = False,
        compile: bool = False,
        cfg_batch: int | None = None,
        precision: str | None = None,
    ) -> None:
        self.device = pick_device(None if device is None else str(device))
        self.precision = pick_precision(precision, self.device)
        self._dtype = DTYPES[self.precision]
        self._checkpointing, self._compile = checkpointing, compile
        self._cfg_batch = cfg_batch
        self._loaded: dict[tuple[str, Files], Models] = {}
        self._held = 0  # bytes that the largest batch so far has asked for
        self._obtain = cache(store.obtain)
        self._states: dict[Path, object] = {}  # of files, as they were at first
        self._read = lru_cache(TEXTS)(self._read_new_text)
        self._encode_text = lru_cache(TEXTS)(partial(prompts.encode_text, device=self.device))

    @property
    def unusual_precision(self) -> str | None:
        """The precision, None where it is the device's usual one."""
        return None if self.precision == usual_precision(self.device) else self.precision

    def files(self, job: Job) -> Files:
        """Return the files of a job's weights, fetched if need be, unchanged. Raises as `draw`."""
        own = () if job.checkpoint is None else (job.checkpoint,)
        for option, paths in (("checkpoint", own), ("clip-checkpoint", job.clip_checkpoint)):
            for given in paths:  # before anything is fetched
                if not os.path.isfile(expand_user(given)):
                    text = f"{printable(given)} is not a file; give the path of the weights"
                    raise UserError(f"--{option}: {text}")
        try:
            model = expand_user(job.checkpoint) if job.checkpoint else self._obtain(job.model)
            clip: Path | None = None
            clips: tuple[Path, ...] = ()
            if job.asks_clip:
                names = [name for name, _ in job.clip]
                pairs = zip_longest(names, map(expand_user, job.clip_checkpoint))
                clips = tuple(path or self._obtain(name) for name, path in pairs)
                first = dict(zip(reversed(names), reversed(clips)))  # of those of one name
                clip = first.get(job.own_clip) or self._obtain(job.own_clip)
        except store.CheckpointError as error:
            raise RunError(error) from None
        for path in filter(None, (model, clip, *clips)):
            found = store.state(path)
            if self._states.setdefault(path, found) != found:
                raise RunError(f"{printable(path)} has changed while it was in use; start again")
        return Files(model, clip, clips if job.guides else ())

    def check(self, job: Job) -> None:
        """Raise UserError if a job has no step to take, which needs no weights."""
        times(job, get_model(job.model))

    def load(self, job: Job) -> Models:
        """Return the models of a job, loaded at the first time. Raises as `draw`."""
        files = self.files(job)
        key = job.model, files
        if key not in self._loaded:
            try:
                model = load_model(job.model, files.model, self.device, self._dtype)
                paths = dict.fromkeys(filter(None, (files.clip, *files.guides)))
                clips = {path: load_clip(path, self.device, self._dtype) for path in paths}
                dim = getattr(model, "embed_dim", None)
                if files.clip and dim not in (None, clips[files.clip].visual.output_dim):
                    text = f"its embeddings don't have the {dim} dimensions that {job.model} takes"
                    raise store.CheckpointError(f"{printable(files.clip)}: {text}")
            except store.CheckpointError as error:
                if not (job.checkpoint or job.clip_checkpoint):
                    raise RunError(error) from None
                remedy = "" if ";" in str(error) else "; give another file"
                raise UserError(f"{error}{remedy}") from None
            guides = tuple(clips[path] for path in files.guides)
            models = Models(model, files.clip and clips[files.clip], guides)
            how = self._checkpointing, self._compile, self._dtype
            self._loaded[key] = for_drawing(models, self.device, *how)
        return self._loaded[key]

    def _read_new_text(self, clip: CLIP, model: str | None, text: str) -> str:
        """Return a text as CLIPs read it, and warn about words not learned or cut off."""
        if model is not None and (known := vocabulary.of(model)) is not None:
            if told := vocabulary.warning(model, text, partial(prompts.nearest, clip)):
                log.warning(told)
            text = known.read(text)
        if (kept := clip_module.kept_text(text)) is not None:
            end = f'"...{kept[-40:]}"'
            log.warning(f"warning: a prompt exceeds CLIP's 77 tokens and is cut after {end}")
        return text

    def draw(self, job: Job) -> Image:
        """Return the picture of a job.

        Raises:
            RunError, UserError: a file can't be had or used, or a prompt can't.
            TypeError: it is something else than one job.
        """
        if not isinstance(job, Job):
            raise TypeError(f"draw takes a Job, as in draw(Job(['a fox'])), not {job!r:.60}")
        (picture,) = self.draw_batch([job], [open_inputs(job)])
        if picture is None:
            raise RunError(NO_PICTURE)
        return picture

    def draw_batch(
        self,
        jobs: Sequence[Job],
        inputs: Sequence[Inputs],
        callback: Callable[[dict[str, Any]], object] | None = None,
        *,
        disable: bool | None = None,
    ) -> list[Image | None]:
        """Return the pictures of jobs of one `batch_key`, drawn together; None for a broken one.

        Args:
            inputs: each job's opened pictures.
            callback: called at each step, as `sample.sample` does.
            disable: tqdm's, of the bar over the steps.
        """
        job, n = jobs[0], len(jobs)
        guard = memory.advice(job, n, self.device, self._checkpointing)
        with torch.inference_mode(False), torch.autocast("cpu", enabled=False), guard:
            models = self.load(job)
            if not self._compile:
                need = memory.needed(job, n, self._checkpointing, self._cfg_batch)
                memory.check_batch(job, n, need, self.device, self._held)
                self._held = max(self._held, need)
            # Weights of the user's may know other words.
            known = None if job.checkpoint or job.clip_checkpoint else job.model

            def encode_text(clip: CLIP, text: str) -> Tensor:
                return self._encode_text(clip, self._read(models.clip, known, text))

            drawn = sample(
                jobs,
                models,
                make_targets(jobs, inputs, models, encode_text, self.device),
                self.device,
                callback,
                cutouts_at_once=memory.FEW_CUTOUTS if self._checkpointing else None,
                rows_at_once=self._cfg_batch,
                disable=disable,
            )
            # NaN is not below anything either.
            sound = (drawn.abs() < LARGEST).flatten(1).all(1).tolist()
            return [utils.to_pil_image(x) if good else None for x, good in zip(drawn, sound)]
