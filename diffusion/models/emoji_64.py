"""Model emoji_64: 64x64 emoji, conditioned on embeddings of a small CLIP of its own."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import FourierFeatures, LinearBlock, Style, run, unet, unit_scale

EMBED_DIM = 256
COND_DIM = 256
THINGS = 777  # emoji that it was trained on


class Sketch(nn.Module):
    """Estimate of the mean picture of an embedding, at half its size.

    `spread` is r, the standard deviation of pictures from their sketches.
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
        """Return the sketches [B, 3, 32, 32] of embeddings [B, 256] of length 16."""
        h = self.coefficients(F.relu(self.features(clip_embed)))
        return self.pixels(h).view(-1, 3, self.size, self.size)


class Known(nn.Module):
    """Embedding and sketch to use without a prompt, made from those of the things in training.

    If x_t shows one of these things, and pictures are Gaussian with standard deviation r around
    their sketches s_i, all at half the size, then by Bayes' rule it shows thing i with probability

        w_i ~ exp(-|x_t - alpha s_i|^2 / 2 (sigma^2 + alpha^2 r^2)).

    The means of the embeddings and of the sketches with these weights take the place of a prompt's.
    Near noise they are means of all things, and near the picture they are those of one thing.
    """

    embeds: Tensor  # [N, 256], of length 1

    def __init__(self, things: int) -> None:
        super().__init__()
        self.register_buffer("embeds", torch.empty(things, EMBED_DIM).zero_())

    def forward(
        self, drawn: Tensor, spread: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the mean embeddings [B, 256] and sketches [B, 3, 32, 32] for x_t, [B, 3, H, W].

        `drawn`, [N, 3, 32, 32], has each thing's sketch; alpha and sigma are [B, 1, 1, 1].
        """
        size = drawn.shape[1:]
        drawn = drawn.flatten(1).to(x.dtype)
        # The noise of a mean of n pixels has 1 / n of their variance.
        half = F.interpolate(x, size[1:], mode="area").flatten(1)
        pixels = x[0, 0].numel() / size[1:].numel()
        variance = sigma**2 / pixels + alpha**2 * spread**2
        alpha, variance = alpha.flatten(1), variance.flatten(1)
        # |x - alpha s|^2 without |x|^2, which is the same for all things.
        off = alpha**2 * drawn.square().sum(1) - 2 * alpha * (half @ drawn.T)
        weights = (-off / (2 * variance)).softmax(1)
        return weights @ self.embeds.to(x.dtype), (weights @ drawn).view(-1, *size)


class Emoji64Model(nn.Module):
    """Model of v (see `diffusion.guidance`), preconditioned around the sketch of its embedding.

    If x_0 were Gaussian with standard deviation r around the sketch s, the expected v would be
    sigma ((1 - r^2) alpha x - s) / d with d = alpha^2 r^2 + sigma^2, and its standard deviation
    r / sqrt(d). The U-Net predicts the difference from that mean in units of that deviation, as in
    Karras et al. 2022 (arXiv 2206.00364, eq. 7), but with a mean that depends on the prompt.
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
        self.known = Known(THINGS)
        self.mapping_timestep_embed = FourierFeatures(64)
        self.mapping = nn.Sequential(
            LinearBlock(EMBED_DIM + 64, COND_DIM), LinearBlock(COND_DIM, COND_DIM, is_last=True)
        )
        self.timestep_embed = FourierFeatures(16)
        style = Style(cond_dim=COND_DIM)
        self.net = unet(12 + 3 + 16, 12, [64, 128, 192], style, depth=2, attention_from=2)

    def conditions(self, clip_embed: Tensor) -> dict[str, Tensor]:
        """Return the arguments of `forward` that are the same at every time.

        Args:
            clip_embed: [B, 256], of any length; zeros for no prompt. Classifier-free guidance
                leaves `things` out: away from the most likely thing it would go too far.
        """
        found = {"clip_embed": clip_embed, "sketch": self.sketch(unit_scale(clip_embed))}
        if not clip_embed.is_meta and not clip_embed.any(1).all():
            things = self.sketch(unit_scale(self.known.embeds))
            found["things"] = things.expand(len(clip_embed), *things.shape)
        return found

    def forward(
        self,
        input: Tensor,
        t: Tensor,
        clip_embed: Tensor,
        sketch: Tensor | None = None,
        things: Tensor | None = None,
    ) -> Tensor:
        """Return v at time t.

        Args:
            input: [B, 3, H, W], H and W multiples of 8.
            t: [B], 0 (the picture) to 1 (noise).
            clip_embed: [B, 256], of any length; zeros for the mean of all things, as in training.
            sketch: [B, 3, 32, 32], of `conditions`; by default computed here.
            things: [B, N, 3, 32, 32], of `conditions`, the same in each row: the sketches of all
                things. Where there is no prompt, the likely ones take the place of the mean.

        Returns:
            v, [B, 3, H, W].
        """
        if sketch is None:
            sketch = self.sketch(unit_scale(clip_embed))
        h, w = input.shape[2:]
        angle = t[:, None, None, None] * (math.pi / 2)
        alpha, sigma = angle.cos(), angle.sin()
        sketch = sketch.to(input.dtype)
        if things is not None:
            likely, drawn = self.known(things[0], self.sketch.spread, input, alpha, sigma)
            prompted = clip_embed.any(1)
            clip_embed = torch.where(prompted[:, None], clip_embed, likely)
            sketch = torch.where(prompted[:, None, None, None], sketch, drawn)
        clip_embed = unit_scale(clip_embed)
        half = F.interpolate(sketch, (h // 2, w // 2), mode="bilinear", align_corners=False)
        full = F.interpolate(sketch, (h, w), mode="bilinear", align_corners=False)
        r = self.sketch.spread
        d = alpha**2 * r**2 + sigma**2
        expected = sigma * ((1 - r**2) * alpha * input - full) / d

        cond = self.mapping(torch.cat([clip_embed, self.mapping_timestep_embed(t[:, None])], dim=1))
        planes = self.timestep_embed(t[:, None])[..., None, None].expand(-1, -1, h // 2, w // 2)
        residual = F.pixel_unshuffle((input - alpha * full) / d.sqrt(), 2)
        out = run(self.net, torch.cat([residual, half, planes], dim=1), cond)
        return expected + r / d.sqrt() * F.pixel_shuffle(out, 2)
