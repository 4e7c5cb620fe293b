"""The emoji_64 model: 64x64 emoji, conditioned on the embeddings of a small CLIP of its own."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import FourierFeatures, LinearBlock, Style, run, unet, unit_scale

EMBED_DIM = 256
COND_DIM = 256


class Sketch(nn.Module):
    """Guesses the picture at half its size from the embedding alone: the mean of all it may be.

    `spread` is the standard deviation of pictures around their sketches.
    """

    size = 32
    spread: Tensor

    def __init__(self, features: int, rank: int) -> None:
        super().__init__()
        self.features = nn.Linear(EMBED_DIM, features)
        self.coefficients = nn.Linear(features, rank)
        self.pixels = nn.Linear(rank, 3 * self.size**2)
        self.register_buffer("spread", torch.tensor(1.0))

    def forward(self, clip_embed: Tensor) -> Tensor:
        """Embeddings [B, 256] of length 16 to pictures [B, 3, 32, 32]."""
        h = self.coefficients(F.relu(self.features(clip_embed)))
        pixels: Tensor = self.pixels(h)
        return pixels.view(-1, 3, self.size, self.size)


class Emoji64Model(nn.Module):
    """Predicts v = alpha eps - sigma x_0 (Salimans and Ho 2022, arXiv 2202.00512).

    If x_0 were Gaussian around the sketch s with standard deviation r, the best guess of v would be
    sigma ((1 - r^2) alpha x - s) / d with d = alpha^2 r^2 + sigma^2, and its error would be r /
    sqrt(d) large. The U-Net gives what is beyond that, in units of that error: the preconditioning
    of Karras et al. 2022 (arXiv 2206.00364, eq. 7) around a mean that depends on the words.

    Sides are multiples of 8.
    """

    shape = (3, 64, 64)
    clip_model = "emoji_64_clip"
    embed_dim = EMBED_DIM
    min_t = 0.0
    max_t = 1.0
    size_multiple = 8

    def __init__(self) -> None:
        super().__init__()
        self.sketch = Sketch(features=4096, rank=384)
        self.mapping_timestep_embed = FourierFeatures(64)
        self.mapping = nn.Sequential(
            LinearBlock(EMBED_DIM + 64, COND_DIM, COND_DIM),
            LinearBlock(COND_DIM, COND_DIM, COND_DIM, is_last=True),
        )
        self.timestep_embed = FourierFeatures(16)
        self.net = unet(
            12 + 3 + 16,
            12,
            [64, 128, 192],
            Style(cond_dim=COND_DIM),
            depth=2,
            bottom_depth=4,
            attention_from=2,
        )

    def conditions(self, clip_embed: Tensor) -> dict[str, Tensor]:
        """The arguments of `forward` that are the same at every time, computed once for a run.

        Args:
            clip_embed: [B, 256]; its length doesn't matter.
        """
        return {"clip_embed": clip_embed, "sketch": self.sketch(unit_scale(clip_embed))}

    def forward(
        self, input: Tensor, t: Tensor, clip_embed: Tensor, sketch: Tensor | None = None
    ) -> Tensor:
        """v at time t.

        Args:
            input: [B, 3, H, W], H and W multiples of 8.
            t: [B], 0 (the picture) to 1 (noise).
            clip_embed: [B, 256]; its length doesn't matter.
            sketch: [B, 3, 32, 32], of `conditions`; computed here if it isn't given.

        Returns:
            v, [B, 3, H, W].
        """
        clip_embed = unit_scale(clip_embed)
        h, w = input.shape[2:]
        sketch = (self.sketch(clip_embed) if sketch is None else sketch).to(input.dtype)
        half = F.interpolate(sketch, (h // 2, w // 2), mode="bilinear", align_corners=False)
        full = F.interpolate(sketch, (h, w), mode="bilinear", align_corners=False)
        angle = t[:, None, None, None] * (math.pi / 2)
        alpha, sigma = angle.cos(), angle.sin()
        r = self.sketch.spread
        d = alpha**2 * r**2 + sigma**2
        expected = sigma * ((1 - r**2) * alpha * input - full) / d

        cond = self.mapping(torch.cat([clip_embed, self.mapping_timestep_embed(t[:, None])], dim=1))
        planes = self.timestep_embed(t[:, None])[..., None, None].expand(-1, -1, h // 2, w // 2)
        residual = F.pixel_unshuffle((input - alpha * full) / d.sqrt(), 2)
        out = run(self.net, torch.cat([residual, half, planes], dim=1), cond)
        return expected + r / d.sqrt() * F.pixel_shuffle(out, 2)
