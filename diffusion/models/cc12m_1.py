"""Model CC12M_1: 256x256 pictures, conditioned on embeddings of CLIP ViT-B/16."""

import torch
from torch import Tensor, nn

from .blocks import FourierFeatures, LinearBlock, Style, run, unet, unit_scale


class CC12M1Model(nn.Module):
    """Model of v (see `diffusion.guidance`) with 602,895,947 parameters, those of cc12m_1.pth."""

    shape = (3, 256, 256)
    clip_model = "ViT-B/16"
    embed_dim = 512
    min_t = 0.0
    max_t = 1.0
    size_multiple = 64  # of height and width, which are halved six times

    def __init__(self) -> None:
        super().__init__()
        self.mapping_timestep_embed = FourierFeatures(128)
        self.mapping = nn.Sequential(
            LinearBlock(self.embed_dim + 128, 1024), LinearBlock(1024, 1024, is_last=True)
        )
        self.timestep_embed = FourierFeatures(16)
        widths = [128, 256, 256, 512, 512, 1024, 1024]
        self.net = unet(3 + 16, 3, widths, Style(cond_dim=1024), depth=4, attention_from=4)

    def conditions(self, clip_embed: Tensor) -> dict[str, Tensor]:
        """Return the arguments of `forward` that are the same at every time."""
        return {"clip_embed": clip_embed}

    def forward(self, input: Tensor, t: Tensor, clip_embed: Tensor) -> Tensor:
        """Return v at time t.

        Args:
            input: [B, 3, H, W], H and W multiples of 64.
            t: [B], 0 (the picture) to 1 (noise).
            clip_embed: [B, 512], of any length.

        Returns:
            v, [B, 3, H, W].
        """
        clip_embed = unit_scale(clip_embed)
        features = self.mapping_timestep_embed(t[:, None])
        cond = self.mapping(torch.cat([clip_embed, features], dim=1))
        planes = self.timestep_embed(t[:, None])[..., None, None]
        planes = planes.expand(-1, -1, *input.shape[2:])
        return run(self.net, torch.cat([input, planes], dim=1), cond).contiguous()
