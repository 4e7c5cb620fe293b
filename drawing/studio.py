"""Where pictures are drawn: models that stay loaded, batches of jobs, pictures."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL.Image import Image
from torch import Tensor, nn

from checkpoints import store, tensors
from checkpoints.console import note
from CLIP import clip, guidance
from CLIP import prompts as clip_prompts
from CLIP.model import CLIP
from compute import compilation, convolution
from compute.blank import blank
from diffusion import get_model, noise, sampling, utils
from diffusion.models.blocks import use_checkpointing

from .devices import pick_device
from .job import Job
from .prompts import Subject, combine, cut_warning, encode_images, open_subject
from .shell import RunError, UserError
from .weights import Files, find_files

TEXTS = 4096  # so many embeddings of texts are kept, some MB


class Models(NamedTuple):
    """A diffusion model and its CLIP, ready to draw.

    Args:
        model: an instance of what `diffusion.get_model` gives, or that compiled.
    """

    model: Any
    clip: CLIP


def load_model(name: str, checkpoint: str | Path | None, device: torch.device) -> nn.Module:
    """The diffusion model in evaluation mode: fp16 on CUDA, fp32 elsewhere.

    Raises:
        checkpoints.store.CheckpointError: its file can't be had or used.
    """
    path = Path(checkpoint) if checkpoint else store.obtain(name)
    with blank():
        model: nn.Module = get_model(name)()
    tensors.load_into(model, tensors.read(path), path)
    model = model.eval().requires_grad_(False)
    if device.type == "cpu" and convolution.can_pack():
        return convolution.pack(model.float())
    model = model.half() if device.type == "cuda" else model.float()
    return model.to(device).to(memory_format=torch.channels_last)


def compile_models(models: Models, device: torch.device) -> Models:
    """The models compiled where that gains anything.

    On a CPU our convolutions are faster than those that the compiler would put in their place.

    Raises:
        UserError: there is no compiler.
    """
    if device.type != "cuda":
        note(f"--compile left out: sampling on {device.type} gains nothing by it")
        return models
    try:
        compilation.require_compiler()
    except compilation.CompilerError as error:
        raise UserError(f"--compile: {error}") from None
    encode_image = compilation.compiled(models.clip.encode_image)
    setattr(models.clip, "encode_image", encode_image)  # noqa: B010  in place of the method
    return Models(compilation.compiled(models.model), models.clip)


def sample(
    jobs: Sequence[Job],
    models: Models,
    targets: Tensor,
    callback: Callable[[dict[str, Any]], object] | None = None,
    *,
    cutouts_at_once: int = guidance.CUTOUTS,
    disable: bool | None = None,
) -> Tensor:
    """One batch: the pictures [B, 3, H, W] of B jobs of one `batch_key`.

    Args:
        targets: the embedding of each, [B, D].
        callback: the samplers'.
        cutouts_at_once: how many cutouts of each picture CLIP looks at together.
        disable: tqdm's, of the bar over the steps.
    """
    job, model = jobs[0], models.model
    streams = noise.streams([job.seed for job in jobs])
    x = noise.randn(streams, model.shape, targets.device)
    t = torch.linspace(1, 0, job.steps + 1)[:-1]
    steps = utils.get_spliced_ddpm_cosine_schedule(t).to(targets.device)
    scales = [job.clip_guidance_scale for job in jobs]
    with sampling.autocast(targets.device):
        conditions = model.conditions(targets)
    cond_fn = guidance.make_cond_fn(models.clip, scales, streams, cutouts_at_once)
    return sampling.run_method(
        job.method,
        model,
        x,
        steps,
        job.eta,
        conditions,
        cond_fn if job.clip_guidance_scale else None,
        callback,
        noise_sampler=noise.make_noise_sampler(streams),
        disable=disable,
    )


class Studio:
    """Draws jobs, and loads what they need once.

    Args:
        device: where to draw; by default CUDA, else MPS, else the CPU.
        checkpointing: guide in less memory and more time.
        compile: compile the models, where that gains anything.

    Raises:
        UserError: there is no such device.
    """

    def __init__(
        self,
        device: str | torch.device | None = None,
        *,
        checkpointing: bool = False,
        compile: bool = False,
    ) -> None:
        self.device = pick_device(None if device is None else str(device))
        self._checkpointing = checkpointing
        self._compile = compile
        self._files: dict[tuple[str | None, ...], Files] = {}
        self._loaded: dict[tuple[str, Files], Models] = {}
        self._encode_text = lru_cache(TEXTS)(self._encode_new_text)
        self._encode_texts = lru_cache(TEXTS)(self._encode_new_texts)

    def files(self, job: Job) -> Files:
        """The files of weights of a job, fetched if need be.

        Raises:
            RunError: one can't be had.
        """
        key = job.model, job.checkpoint, job.clip_checkpoint
        if key not in self._files:
            self._files[key] = find_files(job)
        return self._files[key]

    def load(self, job: Job) -> Models:
        """The models of a job, loaded if they aren't.

        Raises:
            RunError: a file of weights can't be had or used.
            UserError: there is no compiler.
        """
        key = job.model, self.files(job)
        if key not in self._loaded:
            try:
                model = load_model(job.model, key[1].model, self.device)
                clip_model, _ = clip.load(key[1].clip, device=self.device)
            except store.CheckpointError as error:
                raise RunError(error) from None
            clip_model.requires_grad_(False)
            if self._checkpointing:
                use_checkpointing(model)
            models = Models(model, clip_model)
            self._loaded[key] = compile_models(models, self.device) if self._compile else models
        return self._loaded[key]

    def _encode_new_text(self, clip_model: CLIP, text: str) -> Tensor:
        if warning := cut_warning(text):
            note(warning)
        return clip_prompts.encode_text(clip_model, text, self.device)

    def _encode_new_texts(self, clip_model: CLIP, texts: tuple[tuple[str, float], ...]) -> Tensor:
        return combine((self._encode_text(clip_model, text), weight) for text, weight in texts)

    def target(self, job: Job, subject: Subject) -> Tensor:
        """What a job's prompts say together: their embedding, [1, D], normalised.

        The cutouts of its image prompts have a stream of their own, seeded with its seed, so that a
        picture doesn't depend on the run that it is made in.

        Raises:
            RunError, UserError: as `load`, or the prompts' weights can't be used.
        """
        model, clip_model = self.load(job)
        if not subject.images:
            return self._encode_texts(clip_model, subject.texts)
        texts = [(self._encode_text(clip_model, text), weight) for text, weight in subject.texts]
        (stream,) = noise.streams([job.seed])
        side = min(model.shape[1:])
        return combine([*texts, *encode_images(subject, clip_model, side, stream)])

    def draw(self, job: Job) -> Image:
        """The picture of a job.

        Raises:
            RunError, UserError: a file can't be had or used, or a prompt can't.
        """
        return self.draw_batch([job], [open_subject(job.prompts, job.images)])[0]

    def draw_batch(
        self,
        jobs: Sequence[Job],
        subjects: Sequence[Subject],
        callback: Callable[[dict[str, Any]], object] | None = None,
        *,
        disable: bool | None = None,
    ) -> list[Image]:
        """The pictures of jobs of one `batch_key`, drawn together.

        Args:
            subjects: their opened prompts.
            callback: called at each step as the samplers do.
            disable: tqdm's, of the bar over the steps.

        Raises:
            RunError, UserError: as `draw`.
            ValueError: they have no `batch_key` in common.
        """
        if len({job.batch_key for job in jobs}) > 1:
            raise ValueError("jobs of one batch have model, method, steps and eta in common")
        targets = [self.target(job, subject) for job, subject in zip(jobs, subjects)]
        at_once = guidance.CUTOUTS // 4 if self._checkpointing else guidance.CUTOUTS
        drawn = sample(
            jobs,
            self.load(jobs[0]),
            torch.cat(targets),
            callback,
            cutouts_at_once=at_once,
            disable=disable,
        )
        if not drawn.isfinite().all():
            text = "the picture has numbers that are not finite: a file of weights is damaged"
            raise RunError(f"{text}, or the guidance scale too large")
        return [utils.to_pil_image(x) for x in drawn]
