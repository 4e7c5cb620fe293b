"""The small CLIP's second stage: the text tower alone, towards the pictures' embeddings."""

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tqdm import tqdm

from CLIP.model import CLIP

from .clip import (
    DIMENSIONS,
    PREFIXES,
    accuracies,
    embed_images,
    random_caption,
    schedule,
    show,
    to_tensor,
    tokens,
)
from .data import Picture


@dataclass(frozen=True)
class Recipe:
    steps: int = 1000
    batch: int = 256
    lr: float = 5e-4
    warmup: int = 50
    weight_decay: float = 0.05
    word_dropout: float = 0.2
    seed: int = 1


def tune_text(model: CLIP, pictures: list[Picture], unseen: dict[str, str], recipe: Recipe) -> None:
    """Teaches the text tower more words, in place, without moving the pictures' embeddings.

    A caption is told apart from all pictures at once, not only from those of its batch.
    """
    torch.manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    model.requires_grad_(False)
    image = embed_images(model, to_tensor(pictures))
    scale = model.logit_scale.exp()
    towers = (model.transformer, model.token_embedding, model.ln_final)
    parameters = [p for tower in towers for p in tower.parameters()]
    parameters += [model.text_projection, model.positional_embedding]
    for p in parameters:
        p.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        parameters, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
    )
    for step in tqdm(range(recipe.steps), desc="CLIP's text tower", disable=None):
        optimizer.param_groups[0]["lr"] = recipe.lr * schedule(step, recipe.warmup, recipe.steps)
        chosen = torch.tensor([rng.randrange(len(pictures)) for _ in range(recipe.batch)])
        texts = [random_caption(pictures[i], recipe.word_dropout, rng) for i in chosen]
        with torch.autocast("cpu", torch.bfloat16):
            text = F.normalize(model.encode_text(tokens(texts)).float())
        loss = F.cross_entropy(scale * text @ image.T, chosen)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if (step + 1) % 200 == 0:
            figures = accuracies(model, pictures, unseen)
            tqdm.write(f"text tower {step + 1} loss {loss.item():.3f} " + show(figures))
    model.requires_grad_(False)
    silence(model, pictures)


@torch.no_grad()
def silence(model: CLIP, pictures: list[Picture]) -> None:
    """Words that no caption has then say nothing, rather than something at random."""
    known = torch.unique(tokens([c for p in pictures for c in (*p.captions, *PREFIXES)]))
    silent = torch.ones(DIMENSIONS["vocab_size"], dtype=torch.bool)
    silent[known] = False
    model.token_embedding.weight[silent] = 0
