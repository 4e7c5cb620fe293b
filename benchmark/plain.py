"""The plain way of doing the same work, to compare with: as a straightforward program does it.

Models are the plain modules of `diffusion` and `CLIP`, built with their random initialisation and
filled from a file that is read into memory. Nothing is packed, compiled or kept between calls.
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
    """Return guidance like `CLIP.guidance.make_cond_fn`, back to x in one go."""
    cutter = guidance.MakeCutouts(model.visual.input_resolution, guidance.CUTOUTS)
    normalize = guidance.make_normalize(model.logit_scale.device)

    def cond_fn(x: Tensor, t: Tensor, pred: Tensor, **_: Tensor) -> Tensor:
        cutouts = []
        for picture, stream in list(zip((pred + 1) / 2, streams)) * guidance.CUTOUTS:
            ys, xs = cutter.draw(pred.shape[2], pred.shape[3], stream)
            cutouts.append(nn.functional.adaptive_avg_pool2d(picture[:, ys, xs], cutter.cut_size))
        embeds = model.encode_image(normalize(torch.stack(cutouts)))
        embeds = embeds.view(guidance.CUTOUTS, *target.shape)
        losses = guidance.spherical_dist_loss(embeds, target[None])
        return -torch.autograd.grad(losses.mean(0).sum() * scale, x)[0]

    return cond_fn


def load_model(name: str, path: Path) -> nn.Module:
    """Return a diffusion model of a file."""
    model: nn.Module = get_model(name)()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval().requires_grad_(False)


def load_clip(path: Path) -> clip.CLIP:
    """Return a CLIP of a state dict in a file."""
    state_dict = torch.load(path, map_location="cpu", weights_only=True)
    model = clip.CLIP(**clip.dimensions(state_dict))
    model.load_state_dict(state_dict)
    return model.float().eval().requires_grad_(False)
