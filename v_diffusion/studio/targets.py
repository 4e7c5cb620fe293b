"""Targets: prompts and pictures as the embeddings and tensors that a batch is drawn towards."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from CLIP import guidance, prompts
from CLIP.model import CLIP
from diffusion import noise, utils

from ..images.decode import resize_and_center_crop
from ..images.inputs import Input, Inputs
from ..job.job import Job
from ..job.script import CLIP_SAMPLE
from .models import Models

EncodeText = Callable[[CLIP, str], Tensor]  # a text to its embedding [1, D]


class Targets(NamedTuple):
    """The targets of a batch.

    Args:
        embeds: with CLIP's guidance the embedding that each picture is to have, [B, D]; without it
            the embeddings that the network is given, [K, B, D], the first of them zeros. None for
            a model without an embedding and without prompts.
        weights: of the latter, [K, B].
        inits: the pictures to start from, [B, 3, H, W] in -1 to 1.
        masks: the parts of them to draw anew, [B, 1, H, W] in 0 to 1.
        guides: the embeddings that each picture is to have for each of `Models.guides`, [B, D].
    """

    embeds: Tensor | None
    weights: Tensor | None = None
    inits: Tensor | None = None
    masks: Tensor | None = None
    guides: tuple[Tensor, ...] = ()


def cutouts_of(job: Job, clip: CLIP) -> guidance.MakeCutouts:
    """Return the cutouts through which CLIP sees a job's pictures."""
    return guidance.MakeCutouts(clip.visual.input_resolution, job.cutn, job.cut_pow)


def target_of(job: Job, inputs: Inputs, clip: CLIP, encode_text: EncodeText) -> Tensor:
    """Return the embedding of all prompts of a job together, [1, D], normalised.

    The cutouts of image prompts come from a stream of their own, with the job's seed.
    """
    encoded = [(encode_text(clip, text), weight) for text, weight in job.prompts]
    if inputs.images:
        (stream,) = noise.streams([job.seed])
        cutouts, side = cutouts_of(job, clip), min(job.size)
        for image, prompt in zip(inputs.images, job.images):
            embeds = prompts.encode_image(clip, image.picture, cutouts, side, stream)
            encoded.append((embeds, prompt.weight))
    return prompts.combine(encoded)


def conditions_of(
    job: Job, inputs: Inputs, models: Models, encode_text: EncodeText, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return what the network is given without CLIP's guidance: zeros and each prompt's embedding,
    [K, D], and their weights, [K], which sum to 1.
    """
    rows = [torch.zeros(1, models.model.embed_dim, device=device)]
    rows += [encode_text(models.clip, prompt.text) for prompt in job.prompts]
    for image in inputs.images:
        side = models.clip.visual.input_resolution
        square = resize_and_center_crop(image.picture, (side, side))
        rows.append(prompts.encode_square(models.clip, square))
    weights = [prompt.weight for prompt in (*job.prompts, *job.images)]
    return torch.cat(rows), torch.tensor([1 - sum(weights), *weights], device=device)


def pictures_of(
    job: Job, inputs: Sequence[Input | None], mode: str, device: torch.device
) -> Tensor | None:
    """Return pictures in a mode and a job's size, [B, C, H, W] in -1 to 1, None for none."""
    given = [one.picture.convert(mode) for one in inputs if one is not None]
    fitting = [utils.from_pil_image(resize_and_center_crop(one, job.size)) for one in given]
    return torch.stack(fitting).to(device) if fitting else None


def make_targets(
    jobs: Sequence[Job],
    inputs: Sequence[Inputs],
    models: Models,
    encode_text: EncodeText,
    device: torch.device,
) -> Targets:
    """Return the targets of jobs of one `batch_key`, each with its opened pictures."""
    inits = pictures_of(jobs[0], [one.init for one in inputs], "RGB", device)
    masks = pictures_of(jobs[0], [one.mask for one in inputs], "L", device)
    masks = None if masks is None else (masks + 1) / 2
    pairs = list(zip(jobs, inputs))
    if jobs[0].script != CLIP_SAMPLE.name:
        found = [conditions_of(*pair, models, encode_text, device) for pair in pairs]
        embeds, weights = (torch.stack(parts, 1) for parts in zip(*found))
        return Targets(embeds, weights, inits, masks)
    if models.clip is not None:
        targets = {
            clip: torch.cat([target_of(*pair, clip, encode_text) for pair in pairs])
            for clip in models.clips
        }
        guides = tuple(targets[clip] for clip in models.guides)
        return Targets(targets[models.clip], None, inits, masks, guides)
    dim = getattr(models.model, "embed_dim", None)
    none = None if dim is None else torch.zeros(len(jobs), dim, device=device)
    return Targets(none, None, inits, masks)
