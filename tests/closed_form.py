"""The model and the guidance that the golden numbers of the samplers were made with."""

import torch
from torch import Tensor

from diffusion import utils


def model(x: Tensor, t: Tensor, clip_embed: Tensor) -> Tensor:
    """The closed form that the golden numbers were made with."""
    m = clip_embed.mean(1)[:, None, None, None]
    wave = 0.5 * torch.sin(3 * t)[:, None, None, None]
    return 0.4 * torch.tanh(x.roll(1, 3)) - 0.3 * x + wave + m


def cond_fn(x: Tensor, t: Tensor, pred: Tensor, clip_embed: Tensor) -> Tensor:
    m = clip_embed.mean(1)[:, None, None, None]
    return -torch.autograd.grad(0.7 * ((pred - m) ** 2).sum(), x)[0]


def schedule(n: int) -> Tensor:
    return utils.get_spliced_ddpm_cosine_schedule(torch.linspace(1, 0, n + 1)[:-1])


def start(batch: int) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(11)
    x = torch.randn(batch, 3, 16, 16)
    return x, {"clip_embed": torch.randn(batch, 512)}
