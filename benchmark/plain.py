"""The plain way of doing the same work, to compare with: as a straightforward program does it.

Models are built with their random initialisation and filled from a file that is read into memory;
tensors are contiguous (NCHW), every layer is PyTorch's own.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from CLIP import guidance
from CLIP import model as clip
from diffusion import get_model


def make_cond_fn(
    model: clip.CLIP, target: Tensor, scale: float, streams: list[torch.Generator]
) -> Callable[..., Tensor]:
    """Guidance as `CLIP.guidance.make_cond_fn` gives it, back to x in one go."""
    make_cutouts = guidance.MakeCutouts(model.visual.input_resolution, guidance.CUTOUTS)
    normalize = guidance.make_normalize(model.logit_scale.device)

    def cond_fn(x: Tensor, t: Tensor, pred: Tensor, **_: Tensor) -> Tensor:
        embeds = model.encode_image(normalize(make_cutouts((pred + 1) / 2, streams)))
        embeds = embeds.view(guidance.CUTOUTS, *target.shape)
        losses = guidance.spherical_dist_loss(embeds, target[None])
        return -torch.autograd.grad(losses.mean(0).sum() * scale, x)[0]

    return cond_fn


def compile(model: nn.Module) -> Callable[..., Tensor]:
    """A plain model as torch.compile makes it fast.

    For calls without gradients: the weights are constants, which the compiler packs itself.
    """
    model = model.to(memory_format=torch.channels_last)
    return torch.compile(model, dynamic=False, options={"freezing": True})


def load_model(name: str, path: Path) -> nn.Module:
    """A diffusion model of `path`, the plain way."""
    model: nn.Module = get_model(name)()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval().requires_grad_(False)


def load_clip(path: Path) -> clip.CLIP:
    """A CLIP of a state dict in `path`, the plain way."""
    state_dict = torch.load(path, map_location="cpu", weights_only=True)
    model = clip.CLIP(**clip.dimensions(state_dict))
    model.load_state_dict(state_dict)
    return model.float().eval().requires_grad_(False)
