"""Small relatives of the models, made of the same blocks, with random weights."""

import torch
from torch import Tensor, nn

from CLIP.model import CLIP
from diffusion import get_model
from diffusion.models.blocks import FourierFeatures, LinearBlock, Style, unet
from diffusion.models.cc12m_1 import CC12M1Model
from diffusion.models.unconditional import DDPM_STYLE, DDPMModel

EMBED = 32


class SmallCC12M(CC12M1Model):
    shape = (3, 16, 16)
    size_multiple = 4
    embed_dim = EMBED

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.mapping_timestep_embed = FourierFeatures(16)
        self.mapping = nn.Sequential(LinearBlock(EMBED + 16, 48), LinearBlock(48, 48, is_last=True))
        self.timestep_embed = FourierFeatures(16)
        self.net = unet(19, 3, [32, 64, 64], Style(cond_dim=48), depth=2, attention_from=2)


class SmallUnconditional(DDPMModel):
    shape = (3, 16, 16)
    widths = [32, 64]
    style = Style(**{**vars(DDPM_STYLE), "head_width": 32})
    depth, attention_from = 2, 1


class ImageTower(nn.Module):
    """CLIP as a module of pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.clip = CLIP(
            embed_dim=EMBED,
            image_resolution=32,
            patch=8,
            vision_width=128,
            vision_layers=2,
            context_length=8,
            vocab_size=50,
            text_width=64,
            text_layers=2,
        )
        for name, p in self.clip.named_parameters():
            if p.ndim > 1 or "embedding" in name:
                nn.init.normal_(p, std=p.shape[-1] ** -0.5)
            elif name.endswith("bias"):
                nn.init.normal_(p, std=0.1)
        nn.init.zeros_(self.clip.logit_scale)
        for name in ("positional_embedding", "text_projection", "logit_scale"):
            getattr(self.clip, name).requires_grad_(False)
        self.clip.transformer.requires_grad_(False)
        self.clip.token_embedding.requires_grad_(False)
        self.clip.ln_final.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.clip.encode_image(x)


def make(name: str) -> nn.Module:
    """A model with the same random weights each time."""
    torch.manual_seed(0)
    if name == "emoji_64":
        return get_model(name)().eval()
    kinds = {"cc12m_1": SmallCC12M, "unconditional": SmallUnconditional, "clip": ImageTower}
    return kinds[name]().eval()


def call_of(name: str, batch: int = 2) -> tuple[Tensor, ...]:
    """The arguments of a call."""
    stream = torch.Generator().manual_seed(1)
    if name == "clip":
        return (torch.randn(batch, 3, 32, 32, generator=stream),)
    x = torch.randn(batch, 3, 16, 16, generator=stream)
    t = torch.rand(batch, generator=stream) * 0.8 + 0.1
    dim = {"cc12m_1": EMBED, "emoji_64": 256}.get(name)
    return (x, t) if dim is None else (x, t, torch.randn(batch, dim, generator=stream))


def loss_of(model: nn.Module, *args: Tensor) -> Tensor:
    return model(*args).square().mean()
