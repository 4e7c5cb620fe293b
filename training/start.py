"""emoji_64 before its first step: its random weights, and what there is to draw."""

import torch
import torch.nn.functional as F
from torch import nn

from CLIP.model import CLIP
from diffusion.models.blocks import ConvBlock
from diffusion.models.emoji_64 import Emoji64Model

from .clip import embed_images, embed_texts, to_tensor
from .data import Picture


def init(model: Emoji64Model) -> None:
    """He initialisation; the last convolution starts at zero, and so the model at its sketch."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if name.endswith((".layer", "out_proj")):
            module.weight.data.mul_(0.2)
    last = model.net[-1]
    assert isinstance(last, ConvBlock)
    for part in (last.main["4"], last.skip):
        assert isinstance(part, nn.Conv2d)
        nn.init.zeros_(part.weight)


@torch.no_grad()
def learn_things(model: Emoji64Model, clip_model: CLIP, pictures: list[Picture]) -> None:
    """Writes down what there is to draw: between each picture's embedding and its name's."""
    images = embed_images(clip_model, to_tensor(pictures))
    names = embed_texts(clip_model, [picture.name for picture in pictures])
    model.known.embeds.copy_(F.normalize(images + names))
