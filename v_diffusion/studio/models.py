"""Loading models from files of weights, and making them ready to draw."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from CLIP import clip
from CLIP.model import CLIP, on_meta
from diffusion import get_model

from ..compute import accelerate, checkpointed
from ..shell.console import log
from ..shell.errors import UserError
from ..weights import store, tensors


class Models(NamedTuple):
    """A diffusion model and its CLIP, None where no job asks it anything."""

    model: Any
    clip: Any


def load_model(name: str, checkpoint: str | Path | None, device: torch.device | str) -> nn.Module:
    """Load a diffusion model in evaluation mode: fp16 on CUDA, fp32 elsewhere.

    Args:
        checkpoint: its file, where that isn't the published or shipped one.

    Raises:
        v_diffusion.weights.store.CheckpointError: its file can't be had or used.
    """
    device = torch.device(device)
    path = Path(checkpoint) if checkpoint else store.obtain(name)
    with on_meta():
        model: nn.Module = get_model(name)()
    tensors.load_into(model, tensors.read(path), path)
    model = model.eval().requires_grad_(False)
    if device.type == "cpu":  # where weights stay as they are mapped
        return model.float()
    model = model.half() if device.type == "cuda" else model.float()
    return model.to(device).to(memory_format=torch.channels_last)


def load_clip(path: Path, device: torch.device) -> CLIP:
    """Load a CLIP in evaluation mode, without its preprocessing. Raises CheckpointError."""
    return clip.load_model(path, device).requires_grad_(False)


def for_drawing(models: Models, device: torch.device, checkpointing: bool) -> Models:
    """Make models that only draw, with checkpointing in less memory; on a CPU, their twins."""
    model, clip_model = models
    if device.type != "cpu":
        return Models(checkpointed(model) if checkpointing else model, clip_model)
    twin = None if clip_model is None else accelerate(clip_model)
    return Models(accelerate(model, checkpointing), twin)


def compile_models(models: Models, device: torch.device) -> Models:
    """Compile models on CUDA, at their first call of each shape.

    On a CPU our convolutions are faster than those that the compiler would put in their place.
    """
    if device.type != "cuda":
        log.warning(f"warning: --compile has no effect on {device.type}; it is for CUDA")
        return models
    from torch._inductor import cpp_builder

    try:
        cpp_builder.get_cpp_compiler()
    except RuntimeError:
        raise UserError(
            "--compile: no C++ compiler found; install one (g++ or clang++), or name it in CXX"
        ) from None
    if models.clip is not None:
        encode_image = torch.compile(models.clip.encode_image, dynamic=False)
        setattr(models.clip, "encode_image", encode_image)  # noqa: B010  in place of the method
    return Models(torch.compile(models.model, dynamic=False), models.clip)
