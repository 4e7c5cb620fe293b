"""Blocks of a convolutional U-Net, and the U-Net made from its list of widths.

Blocks are called with x, [B, C, H, W], and the conditioning vector, [B, D], or None. Their tensors
have the names of the published v-diffusion checkpoints.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5  # that a variance is never below


@dataclass(frozen=True)
class Style:
    """Choices in the blocks of a U-Net.

    Args:
        cond_dim: the length of the conditioning vector; None for conv blocks without condition and
            without norm.
        head_width: the channels of a head of self-attention.
        attention_norm: self-attention normalises its input.
        identity_first: a level comes before the levels inside it in their concatenation, and a
            block's skip before its main path in the state dict.
        up: the interpolation to twice the size, "bilinear" or "nearest".
        last_relu: the last conv block, if it has no condition, ends with a ReLU.
    """

    cond_dim: int | None = None
    head_width: int = 64
    attention_norm: bool = True
    identity_first: bool = False
    up: str = "bilinear"
    last_relu: bool = False


def unit_scale(embed: Tensor) -> Tensor:
    """Scale embeddings [B, D] to length sqrt(D), so that their numbers are about 1."""
    return F.normalize(embed, dim=-1) * embed.shape[-1] ** 0.5


class FourierFeatures(nn.Module):
    """Random Fourier features [B, n] of numbers [B, 1] (Tancik et al. 2020, arXiv 2006.10739)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n // 2, 1))
        nn.init.normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        f = 2 * math.pi * x @ self.weight.T
        return torch.cat([f.cos(), f.sin()], dim=-1)


class LinearBlock(nn.Module):
    """Linear, ReLU, Linear and, except in the last of a row, ReLU; plus a skip."""

    def __init__(self, d_in: int, d_out: int, is_last: bool = False) -> None:
        super().__init__()
        layers = [nn.Linear(d_in, d_out), nn.ReLU(), nn.Linear(d_out, d_out)]
        self.main = nn.Sequential(*layers, nn.Identity() if is_last else nn.ReLU())
        self.skip = nn.Identity() if d_in == d_out else nn.Linear(d_in, d_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.skip(x)


def in_format(x: Tensor) -> Tensor:
    """Return x in the memory format that is fastest for the device's convolutions."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cuda" else x


def moments_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute `group_norm` in fp32 at least, by the moments of each whole image."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(dtype)
        weight, bias = (a.to(dtype).view(-1, x.shape[1], 1, 1) for a in (weight, bias))
        var, mean = torch.var_mean(x, (1, 2, 3), correction=0, keepdim=True)
        scale = weight * (var + EPS).rsqrt()
        return torch.addcmul(bias - mean * scale, x, scale)


def group_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Normalise x over each whole image, and scale and shift its channels by [C] or [B, C]."""
    if x.device.type == "cuda":
        # CUDA's own kernel gives an image to one multiprocessor of a hundred: on an H200 it took
        # nine tenths of a forward. It also returns NCHW for any input.
        out = moments_norm(x, weight, bias)
        return out if torch.is_autocast_enabled("cuda") else out.to(x.dtype)
    if weight.ndim == 1 or len(weight) == 1:  # in one pass
        return F.group_norm(x, 1, weight.flatten(), bias.flatten(), EPS)
    return torch.addcmul(
        bias[..., None, None], F.group_norm(x, 1, eps=EPS), weight[..., None, None]
    )


class GroupNorm(nn.GroupNorm):
    """Module of `group_norm` with weights of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return group_norm(x, self.weight, self.bias)


class Modulation(nn.Module):
    """Norm over each whole image, scale and shift of its channels made from `cond`, and ReLU."""

    def __init__(self, cond_dim: int, channels: int) -> None:
        super().__init__()
        self.layer = nn.Linear(cond_dim, channels * 2, bias=False)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        scale, shift = self.layer(cond).chunk(2, dim=1)
        return group_norm(x, scale + 1, shift).relu()


class ConvBlock(nn.Module):
    """Two 3x3 convolutions, each with a modulation (except a network's last), and a skip."""

    def __init__(
        self, c_in: int, c_mid: int, c_out: int, cond_dim: int, is_last: bool = False
    ) -> None:
        super().__init__()
        # The keys are the positions of these layers in the published files.
        self.main = nn.ModuleDict(
            {
                "0": nn.Conv2d(c_in, c_mid, 3, padding=1),
                "2": Modulation(cond_dim, c_mid),
                "4": nn.Conv2d(c_mid, c_out, 3, padding=1),
            }
        )
        if not is_last:
            self.main["6"] = Modulation(cond_dim, c_out)
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        h = self.main["4"](self.main["2"](self.main["0"](x), cond))
        if "6" in self.main:
            h = self.main["6"](h, cond)
        return h + self.skip(x)


class PlainConvBlock(nn.Module):
    """Two 3x3 convolutions, each with a ReLU (a network's last by `last_relu`), and a skip."""

    def __init__(
        self, c_in: int, c_mid: int, c_out: int, style: Style, is_last: bool = False
    ) -> None:
        super().__init__()
        convolutions = {
            "0": nn.Conv2d(c_in, c_mid, 3, padding=1),
            "2": nn.Conv2d(c_mid, c_out, 3, padding=1),
        }
        skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1, bias=False)
        if style.identity_first:  # A module keeps the place where it is first set.
            self.skip = skip
        self.main, self.skip = nn.ModuleDict(convolutions), skip
        self.rectified = style.last_relu or not is_last

    def forward(self, x: Tensor, cond: Tensor | None) -> Tensor:
        h: Tensor = self.main["2"](self.main["0"](x).relu())
        return (h.relu() if self.rectified else h) + self.skip(x)


class SelfAttention(nn.Module):
    """Multi-head self-attention over the pixels, with a residual."""

    def __init__(self, channels: int, style: Style) -> None:
        super().__init__()
        self.head_width = style.head_width
        self.norm = GroupNorm(1, channels) if style.attention_norm else nn.Identity()
        self.qkv_proj = nn.Conv2d(channels, channels * 3, 1)
        self.out_proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, cond: Tensor | None) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv_proj(self.norm(x)).reshape(b, 3, -1, self.head_width, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(1)
        heads = F.scaled_dot_product_attention(q, k, v)
        return x + self.out_proj(heads.transpose(-1, -2).reshape(b, c, h, w))


class SkipBlock(nn.Module):
    """Level at half the size: pooling, `blocks` and scaling up, concatenated with its input."""

    def __init__(self, blocks: Iterable[nn.Module], style: Style) -> None:
        super().__init__()
        up = nn.Upsample(scale_factor=2, mode=style.up)
        self.main = nn.ModuleList([nn.AvgPool2d(2), *blocks, up])
        self.identity_first = style.identity_first

    def forward(self, x: Tensor, cond: Tensor | None) -> Tensor:
        down, *blocks, up = self.main
        inner = up(run(blocks, down(x), cond))
        return torch.cat([x, inner] if self.identity_first else [inner, x], dim=1)


def run(blocks: Iterable[nn.Module], x: Tensor, cond: Tensor | None) -> Tensor:
    """Apply the blocks to x in order."""
    x = in_format(x)
    for block in blocks:
        x = block(x, cond)
    return x


def conv_row(
    widths: list[int], c_mid: int, style: Style, attention: bool, is_last: bool = False
) -> list[nn.Module]:
    """Make conv blocks between successive widths, with or without attention after each."""
    row: list[nn.Module] = []
    for i, (c_in, c_out) in enumerate(zip(widths, widths[1:])):
        very_last = is_last and i == len(widths) - 2
        if style.cond_dim is None:
            row.append(PlainConvBlock(c_in, c_mid, c_out, style, very_last))
        else:
            row.append(ConvBlock(c_in, c_mid, c_out, style.cond_dim, very_last))
        if attention:
            row.append(SelfAttention(c_out, style))
    return row


def unet(
    c_in: int, c_out: int, widths: list[int], style: Style, *, depth: int, attention_from: int
) -> nn.ModuleList:
    """Make the blocks of a U-Net.

    Args:
        widths: the channels of each level; a level has half the height and width of the one before.
        depth: the conv blocks of a level on the way down, and as many on the way up; the last
            level has both in one row.
        attention_from: the first level whose conv blocks are followed by self-attention.
    """

    def level(i: int, c_in: int, c_out: int) -> list[nn.Module]:
        c, attention = widths[i], i >= attention_from
        if i == len(widths) - 1:
            return conv_row([c_in, *[c] * (2 * depth - 1), c_out], c, style, attention)
        inner = SkipBlock(level(i + 1, c, c), style)
        return [
            *conv_row([c_in, *[c] * depth], c, style, attention),
            inner,
            *conv_row([2 * c, *[c] * (depth - 1), c_out], c, style, attention, is_last=i == 0),
        ]

    return nn.ModuleList(level(0, c_in, c_out))
