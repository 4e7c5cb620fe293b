"""From files of weights to models that are ready to draw."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from diffusion import get_model

from ..compute import compilation, convolution
from ..compute.blank import on_meta
from ..shell.console import note
from ..shell.errors import UserError
from ..weights import store, tensors


class Models(NamedTuple):
    """A diffusion model and its CLIP, ready to draw.

    Args:
        model: an instance of what `diffusion.get_model` gives, its twin, or that compiled.
        clip: a CLIP or its twin; None where no job asks it anything.
    """

    model: Any
    clip: Any


def load_clip(path: Path, device: torch.device) -> Any:
    from CLIP import clip

    return clip.load(path, device=device)[0].requires_grad_(False)


def prepare(models: Models, device: torch.device, checkpointing: bool) -> Models:
    from diffusion.models.blocks import use_checkpointing

    from ..compute.kept import keep_nothing

    if checkpointing:
        use_checkpointing(models.model)
        if models.clip is not None:
            keep_nothing(models.clip)
    return models


def load_model(name: str, checkpoint: str | Path | None, device: torch.device | str) -> nn.Module:
    """The diffusion model in evaluation mode: fp16 on CUDA, fp32 elsewhere.

    Args:
        name: the model's.
        checkpoint: its file, where that isn't the published or shipped one.
        device: where to, or its name.

    Raises:
        v_diffusion.weights.store.CheckpointError: its file can't be had or used.
    """
    device = torch.device(device)
    path = Path(checkpoint) if checkpoint else store.obtain(name)
    with on_meta():
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
    if models.clip is not None:
        encode_image = compilation.compiled(models.clip.encode_image)
        setattr(models.clip, "encode_image", encode_image)  # noqa: B010  in place of the method
    return Models(compilation.compiled(models.model), models.clip)
