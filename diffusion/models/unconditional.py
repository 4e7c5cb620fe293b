"""Unconditional models of v (see `diffusion.guidance`) with the tensors of the published files."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from .. import utils
from .blocks import FourierFeatures, Style, run, unet

# The ends of the DDPM schedule: `utils.get_ddpm_schedule` of 0 and of 1.
DDPM_MIN_T, DDPM_MAX_T = 0.006366145797073841, 0.9957106709480286
DDPM_STYLE = Style(head_width=128, attention_norm=False, identity_first=True, up="nearest")
NOWHERE = 99  # beyond the last level


class UnconditionalModel(nn.Module):
    """U-Net whose input is the picture and, as planes, Fourier features of the time."""

    shape: tuple[int, int, int]
    min_t = 0.0
    max_t = 1.0
    # Arguments of `blocks.unet`.
    widths: list[int]
    style = Style()
    depth: int
    attention_from: int

    def __init__(self) -> None:
        super().__init__()
        self.size_multiple = 2 ** (len(self.widths) - 1)  # each level is half as large
        self.timestep_embed = FourierFeatures(16)
        self.net = unet(
            3 + 16, 3, self.widths, self.style, depth=self.depth, attention_from=self.attention_from
        )

    def conditions(self, clip_embed: Tensor | None = None) -> dict[str, Tensor]:
        """Return the arguments of `forward` that are the same at every time: none."""
        return {}

    def time(self, t: Tensor) -> Tensor:
        """Return the numbers [B] that stand for the times [B] in the Fourier features."""
        return t

    def forward(self, input: Tensor, t: Tensor) -> Tensor:
        """Return v at time t.

        Args:
            input: [B, 3, H, W], H and W multiples of `size_multiple`.
            t: [B], `min_t` (the picture) to `max_t` (noise).

        Returns:
            v, [B, 3, H, W].
        """
        planes = self.timestep_embed(self.time(t)[:, None])[..., None, None]
        planes = planes.expand(-1, -1, *input.shape[2:])
        return run(self.net, torch.cat([input, planes], dim=1), None).contiguous()


class DDPMModel(UnconditionalModel):
    """Unconditional model whose time is given as log SNR, to be sampled on the DDPM schedule."""

    min_t = DDPM_MIN_T
    max_t = DDPM_MAX_T
    style = DDPM_STYLE

    def time(self, t: Tensor) -> Tensor:
        # At time 0, where some samplers end, it would be infinite.
        return utils.alpha_sigma_to_log_snr(*utils.t_to_alpha_sigma(t.clamp_min(self.min_t)))


class Danbooru128Model(DDPMModel):
    """Drawings, 128x128. 564,880,395 parameters."""

    shape = (3, 128, 128)
    widths = [256, 512, 512, 1024, 1024, 2048]
    style = replace(DDPM_STYLE, last_relu=True)
    depth, attention_from = 2, 3


class ImageNet128Model(DDPMModel):
    """Photographs of things, 128x128. 290,342,411 parameters."""

    shape = (3, 128, 128)
    widths = [128, 256, 256, 512, 512, 1024]
    depth, attention_from = 4, 3


class WikiArt128Model(DDPMModel):
    """Paintings, 128x128. 243,880,459 parameters."""

    shape = (3, 128, 128)
    widths = [128, 256, 256, 512, 512, 1024]
    style = replace(DDPM_STYLE, last_relu=True)
    depth, attention_from = 4, NOWHERE


class WikiArt256Model(DDPMModel):
    """Paintings, 256x256. 291,054,347 parameters."""

    shape = (3, 256, 256)
    widths = [64, 128, 256, 256, 512, 512, 1024]
    depth, attention_from = 4, 4


class YFCC1Model(UnconditionalModel):
    """Photographs, 512x512. 481,439,243 parameters."""

    shape = (3, 512, 512)
    widths = [128, 128, 256, 256, 512, 512, 1024, 1024]
    depth, attention_from = 4, 5


class YFCC2Model(UnconditionalModel):
    """Photographs, 512x512. 968,251,915 parameters."""

    shape = (3, 512, 512)
    widths = [128, 256, 512, 512, 1024, 1024, 2048, 2048]
    depth, attention_from = 2, 5
