"""Text and image prompts to one target in CLIP's space."""

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from . import clip
from .guidance import MakeCutouts, make_normalize
from .model import CLIP


def tokens_of(texts: str | list[str], device: torch.device) -> Tensor:
    """Turn texts into token ids without the padding that all have in common; long ones are cut."""
    tokens = clip.tokenize(texts, truncate=True)
    return tokens[:, : int(tokens.argmax(dim=-1).max()) + 1].to(device)


@torch.no_grad()
def encode_text(model: CLIP, text: str, device: torch.device) -> Tensor:
    """Return a text's embedding [1, D], as the text tower gives it: not normalised.

    A text longer than CLIP's context is cut; `clip.kept_text` tells where.
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
        side: its shorter side is made no longer than this.
        stream: where the cutouts' places are drawn from.
    """
    from torchvision.transforms import functional as TF  # type: ignore[import-untyped]

    image = TF.resize(image, min(side, *image.size), TF.InterpolationMode.LANCZOS)
    return encode_pictures(model, make_cutouts(TF.to_tensor(image)[None], [stream]))


def encode_square(model: CLIP, image: Image.Image) -> Tensor:
    """Return the normalised embedding [1, D] of an RGB picture that has CLIP's own size."""
    from torchvision.transforms import functional as TF

    return encode_pictures(model, TF.to_tensor(image)[None])


@torch.no_grad()
def encode_pictures(model: CLIP, pictures: Tensor) -> Tensor:
    """Return the normalised embeddings [N, D] of pictures [N, 3, R, R] from 0 to 1."""
    device = model.logit_scale.device
    seen = make_normalize(device)(pictures.to(device))
    return F.normalize(model.encode_image(seen).float(), dim=-1)


@torch.no_grad()
def nearest(model: CLIP, text: str, others: list[str], count: int) -> list[str]:
    """Return those of other texts that are nearest to a text by the cosine, the nearest first."""
    tokens = tokens_of([text, *others], model.logit_scale.device)
    embeds = F.normalize(model.encode_text(tokens).float(), dim=-1)
    best = (embeds[1:] @ embeds[0]).topk(min(count, len(others))).indices
    return [others[i] for i in best.tolist()]


def combine(prompts: list[tuple[Tensor, float]]) -> Tensor:
    """Return the normalised weighted sum [1, D] of the prompts' embeddings.

    Args:
        prompts: the embeddings of each, [N, D], and its weight, which is shared out among its N
            rows. All weights are divided by the absolute value of their sum.

    Raises:
        ValueError: the weights sum to 0, or are too large for fp32.
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
