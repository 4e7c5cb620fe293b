"""Where pictures are drawn: models that stay loaded, batches of jobs, pictures."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from CLIP import prompts as clip_prompts
from CLIP.model import CLIP
from diffusion import get_model, noise, utils

from ..images.decode import resize_and_center_crop
from ..images.output import NO_PICTURE
from ..job.job import Job
from ..job.prompt import Subject, combine, cut_warning, encode_images, encode_whole, open_subject
from ..job.script import CLIP_SAMPLE
from ..shell.console import note
from ..shell.paths import expand_user
from ..shell.program import RunError, UserError
from ..weights import store
from . import known
from .devices import pick_device
from .estimate import check_batch
from .files import Files, fetches_clip, find_files
from .models import compile_models, for_drawing, load_clip, load_model
from .sample import Aim, Models, cutouts_of, sample, times

TEXTS = 4096  # so many embeddings of texts are kept, some MB
FEW_CUTOUTS = 4  # at once, where memory is short
# Beyond it fp32 has whole numbers alone, and a picture goes from -1 to 1.
LARGEST = 2.0**23


@contextmanager
def useless(named: str | None, option: str) -> Iterator[None]:
    """Of a file of weights that can't be used: that is a mistake of who named it, or a failure.

    Args:
        named: the file, if somebody did.
        option: with which.
    """
    try:
        yield
    except store.CheckpointError as error:
        if not named:
            raise RunError(error) from None
        advice = "" if ";" in str(error) else f"; name another file with {option}"
        raise UserError(f"{error}{advice}") from None


class Studio:
    """Draws jobs, and loads what they need once.

    Args:
        device: where to draw; by default CUDA, else MPS, else the CPU.
        checkpointing: guide in less memory and more time.
        compile: compile the models, where that gains anything.
        cfg_batch: how many pictures and conditions a model is asked for together, by default all.

    Raises:
        UserError: there is no such device.
    """

    def __init__(
        self,
        device: str | torch.device | None = None,
        *,
        checkpointing: bool = False,
        compile: bool = False,
        cfg_batch: int | None = None,
    ) -> None:
        self._cfg_batch = cfg_batch
        self.device = pick_device(None if device is None else str(device))
        self._checkpointing = checkpointing
        self._compile = compile
        self._files: dict[tuple[object, ...], Files] = {}
        self._loaded: dict[tuple[str, Files], Models] = {}
        self._plain: dict[tuple[str, Files], Models] = {}  # to estimate with
        self._told: set[tuple[str, str]] = set()  # the texts of models, which were looked at
        self._fitting: set[tuple[object, ...]] = set()  # batches, of which one was checked
        self._kept = 0.0
        self._encode_text = lru_cache(TEXTS)(self._encode_new_text)
        self._encode_texts = lru_cache(TEXTS)(self._encode_new_texts)

    def files(self, job: Job) -> Files:
        """The files of weights of a job, fetched if need be.

        Raises:
            RunError: one can't be had.
            UserError: one that the job names can't be used, and another would have been fetched.
        """
        key = job.model, job.checkpoint, job.clip_checkpoint, job.clip, job.asks_clip
        if key not in self._files:
            if job.checkpoint is not None and fetches_clip(job):
                with useless(job.checkpoint, "--checkpoint"):
                    load_model(job.model, expand_user(job.checkpoint), "cpu")
            self._files[key] = find_files(job)
        return self._files[key]

    def check(self, job: Job) -> None:
        """Checks what needs PyTorch and no weights.

        Raises:
            UserError: the job has no step to take.
        """
        times(job, get_model(job.model))

    def load(self, job: Job) -> Models:
        """The models of a job, loaded if they aren't.

        Raises:
            RunError: a file of weights can't be had or used.
            UserError: one that the job names can't be used, or there is no compiler.
        """
        key = job.model, self.files(job)
        if key not in self._loaded:
            with useless(job.checkpoint, "--checkpoint"):
                model = load_model(job.model, key[1].model, self.device)
            clip_model = None
            if key[1].clip is not None:
                with useless(job.clip_checkpoint, "--clip-checkpoint"):
                    clip_model = load_clip(key[1].clip, self.device)
            self._plain[key] = Models(model, clip_model)
            models = for_drawing(self._plain[key], self.device, self._checkpointing)
            self._loaded[key] = compile_models(models, self.device) if self._compile else models
        return self._loaded[key]

    def _encode_new_text(self, clip_model: CLIP, text: str) -> Tensor:
        if warning := cut_warning(text):
            note(warning)
        return clip_prompts.encode_text(clip_model, text, self.device)

    def _heard(self, job: Job, subject: Subject, clip_model: CLIP) -> Subject:
        """The subject as the model is to hear it; tells once of what it can't know."""
        for text, _ in subject.texts:
            if (job.model, text) not in self._told:
                self._told.add((job.model, text))
                if warning := known.warning(job, text, clip_model):
                    note(warning)
        return known.heard(job, subject)

    def _encode_new_texts(self, clip_model: CLIP, texts: tuple[tuple[str, float], ...]) -> Tensor:
        return combine((self._encode_text(clip_model, text), weight) for text, weight in texts)

    def target(self, job: Job, subject: Subject) -> Tensor:
        """What a job's prompts say together: their embedding, [1, D], normalised.

        The cutouts of its image prompts have a stream of their own, seeded with its seed, so that a
        picture doesn't depend on the run that it is made in.

        Raises:
            RunError, UserError: as `load`, or the prompts' weights can't be used.
        """
        clip_model = self.load(job).clip
        if not subject.images:
            return self._encode_texts(clip_model, subject.texts)
        texts = [(self._encode_text(clip_model, text), weight) for text, weight in subject.texts]
        (stream,) = noise.streams([job.seed])
        cutouts = cutouts_of(job, clip_model)
        images = encode_images(subject, clip_model, cutouts, min(job.size), stream)
        return combine([*texts, *images])

    def conditions(self, models: Models, subject: Subject) -> tuple[Tensor, Tensor]:
        """What a network without CLIP's guidance is given: zeros and each prompt's embedding,
        [K, D], and their weights, [K], which sum to 1.
        """
        rows = [torch.zeros(1, models.model.embed_dim, device=self.device)]
        if models.clip is not None:
            rows += [self._encode_text(models.clip, text) for text, _ in subject.texts]
            rows += [encode_whole(image, models.clip) for image in subject.images]
        weights = [weight for _, weight in subject.texts]
        weights += [image.weight for image in subject.images]
        shares = torch.tensor([1 - sum(weights), *weights], device=self.device)
        return torch.cat(rows), shares

    def aim(self, jobs: Sequence[Job], subjects: Sequence[Subject]) -> Aim:
        """Where the pictures of jobs of one `batch_key` are to go.

        Raises:
            RunError, UserError: as `load`, or prompts can't be used.
        """
        models, job = self.load(jobs[0]), jobs[0]
        inits = None
        if job.init is not None:
            starts = [subject.init for subject in subjects if subject.init is not None]
            pictures = [resize_and_center_crop(start.picture, job.size) for start in starts]
            inits = torch.stack([utils.from_pil_image(one) for one in pictures]).to(self.device)
        if models.clip is not None:
            subjects = [
                self._heard(one, subject, models.clip) for one, subject in zip(jobs, subjects)
            ]
        if job.script != CLIP_SAMPLE.name:
            found = [self.conditions(models, subject) for subject in subjects]
            embeds, weights = (torch.stack(parts, 1) for parts in zip(*found))
            return Aim(embeds, weights, inits)
        if models.clip is not None:
            targets = [self.target(one, subject) for one, subject in zip(jobs, subjects)]
            return Aim(torch.cat(targets), inits=inits)
        if (dim := getattr(models.model, "embed_dim", None)) is None:
            return Aim(None, inits=inits)
        return Aim(torch.zeros(len(jobs), dim, device=self.device), inits=inits)

    def draw(self, job: Job) -> Image:
        """The picture of a job.

        Raises:
            RunError, UserError: a file can't be had or used, or a prompt can't.
            TypeError: it is something else than one job.
        """
        if not isinstance(job, Job):
            raise TypeError(f"draw takes a Job, as in draw(Job(['a fox'])), not {job!r:.60}")
        subject = open_subject(job.prompts, job.images, job.init, job.prompt_weight)
        return self.draw_batch([job], [subject])[0]

    def draw_batch(
        self,
        jobs: Sequence[Job],
        subjects: Sequence[Subject],
        callback: Callable[[dict[str, Any]], object] | None = None,
        *,
        disable: bool | None = None,
    ) -> list[Image]:
        """The pictures of jobs of one `batch_key`, drawn together.

        Args, raises:
            As `draw_each`.
            RunError: one came out as no picture.
        """
        pictures = self.draw_each(jobs, subjects, callback, disable=disable)
        sound = [picture for picture in pictures if picture is not None]
        if len(sound) < len(pictures):
            raise RunError(NO_PICTURE)
        return sound

    def draw_each(
        self,
        jobs: Sequence[Job],
        subjects: Sequence[Subject],
        callback: Callable[[dict[str, Any]], object] | None = None,
        *,
        disable: bool | None = None,
    ) -> list[Image | None]:
        """The pictures of jobs of one `batch_key`, drawn together; None for those whose numbers are
        no picture's.

        Args:
            subjects: their opened prompts.
            callback: called at each step as the samplers do.
            disable: tqdm's, of the bar over the steps.

        Raises:
            RunError, UserError: as `draw`.
            ValueError: they have no `batch_key` in common.
        """
        if len({job.batch_key for job in jobs}) > 1:
            raise ValueError("jobs of one batch have model, method, steps, eta and more in common")
        models, few = self.load(jobs[0]), FEW_CUTOUTS if self._checkpointing else None
        if not self._compile and (key := (*jobs[0].batch_key, len(jobs))) not in self._fitting:
            # On a CPU what the largest of the batches so far has had is kept for the next.
            like = self.aim(jobs[:1], subjects[:1])
            plain = self._plain.get((jobs[0].model, self.files(jobs[0])), models)
            need = check_batch(len(jobs), jobs[0], plain, like, few, self._cfg_batch, self._kept)
            self._kept = max(self._kept, need)
            self._fitting.add(key)
        drawn = sample(
            jobs,
            models,
            self.aim(jobs, subjects),
            callback,
            cutouts_at_once=few,
            rows_at_once=self._cfg_batch,
            disable=disable,
        )
        # NaN is not below anything either.
        sound = (drawn.abs() < LARGEST).flatten(1).all(1).tolist()
        return [utils.to_pil_image(x) if good else None for x, good in zip(drawn, sound)]
