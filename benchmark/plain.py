"""The plain way of doing the same work, to compare with: as a straightforward program does it.

Models are built with their random initialisation and filled from a file that is read into memory;
tensors are contiguous (NCHW), attention is written out, linear layers are PyTorch's own, and
nothing is packed, compiled or kept between calls.
"""

from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from CLIP import guidance
from CLIP import model as clip
from diffusion import get_model
from diffusion.models import blocks
from v_diffusion.compute.convolution import Conv2d, pack
from v_diffusion.compute.linear import Linear

AnyModel = TypeVar("AnyModel", bound=nn.Module)


def modulate(self: blocks.Modulation, x: Tensor, cond: Tensor) -> Tensor:
    scale, shift = self.layer(cond)[..., None, None].chunk(2, dim=1)
    return torch.addcmul(shift, F.group_norm(x, 1), scale + 1).relu_()


def attend(self: blocks.SelfAttention, x: Tensor, cond: Tensor | None) -> Tensor:
    b, c, h, w = x.shape
    heads = c // self.head_width
    qkv = self.qkv_proj(self.norm(x)).view(b, 3 * heads, self.head_width, h * w)
    q, k, v = qkv.transpose(2, 3).chunk(3, dim=1)
    scale = self.head_width**-0.25
    weights = ((q * scale) @ (k.transpose(2, 3) * scale)).softmax(3)
    out = (weights @ v).transpose(2, 3).contiguous().view(b, c, h, w)
    attended: Tensor = x + self.out_proj(out)
    return attended


def patches(self: clip.VisionTransformer, x: Tensor) -> Tensor:
    planes: Tensor = self.conv1(x)
    return planes.flatten(2).transpose(1, 2)


def first(self: clip.Transformer, x: Tensor) -> Tensor:
    out: Tensor = self(x)
    return out[:, 0]


def attend_in_clip(self: clip.Attention, x: Tensor, causal: bool) -> Tensor:
    b, length, width = x.shape
    qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
    q, k, v = qkv.view(b, length, 3, -1, clip.HEAD_WIDTH).permute(2, 0, 3, 1, 4)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return F.linear(out.transpose(1, 2).reshape(x.shape), self.out_proj.weight, self.out_proj.bias)


def quick_gelu(self: clip.QuickGELU, x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


FORWARD: dict[type[nn.Module], Callable[..., Tensor]] = {
    blocks.Modulation: modulate,
    blocks.SelfAttention: attend,
    Conv2d: nn.Conv2d.forward,
    clip.Attention: attend_in_clip,
    Linear: nn.Linear.forward,
    clip.QuickGELU: quick_gelu,
}


def make_plain(model: AnyModel) -> AnyModel:
    """Gives the layers of a model of ours the plain way to compute."""
    for module in model.modules():
        if isinstance(module, clip.VisionTransformer):
            tower = module.transformer
            # An assignment in place of a method is an error to mypy.
            setattr(module, "patches", MethodType(patches, module))  # noqa: B010
            setattr(tower, "first", MethodType(first, tower))  # noqa: B010
        elif type(module) in FORWARD:
            module.forward = MethodType(FORWARD[type(module)], module)
    return model


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
    """A model of ours without what makes its convolutions fast, as torch.compile makes it fast.

    For calls without gradients: the weights are constants, which the compiler packs itself.
    """
    model = pack(model, False).to(memory_format=torch.channels_last)
    return torch.compile(model, dynamic=False, options={"freezing": True})


def load_model(name: str, path: Path) -> nn.Module:
    """A diffusion model of `path`, the plain way."""
    model: nn.Module = get_model(name)()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return make_plain(model.eval().requires_grad_(False))


def load_clip(path: Path) -> clip.CLIP:
    """A CLIP of a state dict in `path`, the plain way."""
    state_dict = torch.load(path, map_location="cpu", weights_only=True)
    model = clip.CLIP(**clip.dimensions(state_dict))
    model.load_state_dict(state_dict)
    return make_plain(model.float().eval().requires_grad_(False))
