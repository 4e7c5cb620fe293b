"""Embeddings of text and image prompts, and their combination into one target."""

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from . import clip
from .guidance import MakeCutouts, make_normalize
from .model import CLIP


def tokens_of(texts: str | list[str], device: torch.device) -> Tensor:
    """Convert texts, cut if too long, to token ids [B, L], L being the length of the longest."""
    tokens = clip.tokenize(texts, truncate=True)
    return tokens[:, : int(tokens.argmax(dim=-1).max()) + 1].to(device)


@torch.no_grad()
def encode_text(model: CLIP, text: str, device: torch.device) -> Tensor:
    """Return a text's embedding [1, D], not normalised.

    A text longer than CLIP's context is cut; `clip.kept_text` returns the part that is kept.
    """
    return model.encode_text(tokens_of(text, device)).float()


def encode_image(
    model: CLIP,
    image: Image.Image,
    make_cutouts: MakeCutouts,
    side: int,
    stream: torch.Generator,
) -> Tensor:
    """Return the normalised embeddings [cutn, D] of a picture's cutouts.

    Args:
        image: RGB.
        side: the most pixels of its shorter side; a larger image is scaled down.
        stream: a CPU stream for the places of the cutouts.
    """
    from torchvision.transforms import functional as TF  # type: ignore[import-untyped]

    image = TF.resize(image, min(side, *image.size), TF.InterpolationMode.LANCZOS)
    return encode_pictures(model, make_cutouts(TF.to_tensor(image)[None], [stream]))


def encode_square(model: CLIP, image: Image.Image) -> Tensor:
    """Return the normalised embedding [1, D] of an RGB image of CLIP's own size."""
    from torchvision.transforms import functional as TF

    return encode_pictures(model, TF.to_tensor(image)[None])


@torch.no_grad()
def encode_pictures(model: CLIP, pictures: Tensor) -> Tensor:
    """Return the normalised embeddings [N, D] of pictures [N, 3, R, R] in 0 to 1."""
    device = model.logit_scale.device
    seen = make_normalize(device)(pictures.to(device))
    return F.normalize(model.encode_image(seen).float(), dim=-1)


@torch.no_grad()
def nearest(model: CLIP, text: str, others: list[str], count: int) -> list[str]:
    """Return the `count` other texts that are nearest to a text by cosine, nearest first."""
    tokens = tokens_of([text, *others], model.logit_scale.device)
    embeds = F.normalize(model.encode_text(tokens).float(), dim=-1)
    best = (embeds[1:] @ embeds[0]).topk(min(count, len(others))).indices
    return [others[i] for i in best.tolist()]


def combine(prompts: list[tuple[Tensor, float]]) -> Tensor:
    """Return the normalised weighted sum [1, D] of the prompts' embeddings.

    Args:
        prompts: the embeddings [N, D] and the weight of each. A weight is divided by the absolute
            value of the sum of all weights, and equally among its N rows.

    Raises:
        ValueError: the weights sum to 0 (less than 1e-3), or are too large for fp32.
    """
    embeds = torch.cat([embed for embed, _ in prompts])
    rows = [weight / len(embed) for embed, weight in prompts for _ in range(len(embed))]
    weights = torch.tensor(rows, device=embeds.device)
    total = weights.sum().abs()
    if total < 1e-3:
        raise ValueError("the prompts' weights sum to 0; change one of them")
    if not (weights.isfinite().all() and total.isfinite()):
        raise ValueError("the prompts' weights are too large; scale them down")
    return F.normalize((embeds * (weights / total)[:, None]).sum(0, keepdim=True), dim=-1)
