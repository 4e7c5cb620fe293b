"""Trains the small CLIP of emoji_64 (Radford et al. 2021, arXiv 2103.00020)."""

import math
import random
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from CLIP import clip
from CLIP.guidance import make_normalize
from CLIP.model import CLIP, LayerNorm
from CLIP.prompts import tokens_of

from .data import Picture
from .state import descend, groups, restore, save_run, steps_of
from .views import changed, random_views

DIMENSIONS = {
    "embed_dim": 256,
    "image_resolution": 32,
    "patch": 8,
    "vision_width": 192,
    "vision_layers": 4,
    "context_length": 77,
    "vocab_size": 49408,
    "text_width": 128,
    "text_layers": 3,
}
normalize = make_normalize(torch.device("cpu"))
# What a caption stands behind: often nothing.
PREFIXES = ",,,a ,the ,a picture of a ,an emoji of a ,a drawing of ,icon of a ,one ,my ".split(",")


@dataclass(frozen=True)
class Recipe:
    steps: int = 1600
    batch: int = 256
    lr: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.05
    word_dropout: float = 0.12
    noise: float = 0.15
    seed: int = 0


# On from the model that ships, with what has been added to its pictures and captions since.
ON = Recipe(steps=700, lr=4e-4, warmup=50)
# The second stage: the text tower alone, towards the pictures' embeddings.
TEXT = Recipe(steps=1000, lr=5e-4, warmup=50, word_dropout=0.2, seed=1)


def fresh_model() -> CLIP:
    """A CLIP of `DIMENSIONS` with random weights, scaled for its depth and widths."""
    model = CLIP(**DIMENSIONS)
    for name, p in model.named_parameters():
        if name == "logit_scale":
            nn.init.constant_(p, math.log(1 / 0.07))
        elif "embedding" in name:
            nn.init.normal_(p, std=0.02)
        elif p.ndim > 1:
            rows = p.shape[0] if name.endswith("proj") else p[0].numel()
            residual = name.endswith(("out_proj.weight", "c_proj.weight"))
            nn.init.normal_(p, std=rows**-0.5 * (0.4 if residual else 1.0))
        elif name.endswith("bias"):
            nn.init.zeros_(p)
    for module in model.modules():
        if isinstance(module, LayerNorm):
            nn.init.ones_(module.weight)
    return model


def to_tensor(pictures: list[Picture]) -> Tensor:
    """Pictures as [N, 3, 64, 64] in 0 to 1."""
    return torch.stack([torch.tensor(p.pixels) for p in pictures]).permute(0, 3, 1, 2) / 255


def random_caption(picture: Picture, word_dropout: float, rng: random.Random) -> str:
    """The name or another caption, sometimes behind a few words or with a word left out."""
    text = picture.name if rng.random() < 0.25 else rng.choice(picture.captions)
    words = text.split()
    if len(words) > 2:
        kept = [w for w in words if rng.random() >= word_dropout]
        words = kept or words
    return rng.choice(PREFIXES) + " ".join(words)


def tokens(texts: list[str]) -> Tensor:
    return clip.tokenize(texts, truncate=True)


@torch.no_grad()
def embed_texts(model: CLIP, texts: list[str]) -> Tensor:
    """Normalised embeddings [len(texts), D]."""
    parts = [
        F.normalize(model.encode_text(tokens_of(texts[i : i + 512], torch.device("cpu"))))
        for i in range(0, len(texts), 512)
    ]
    return torch.cat(parts)


@torch.no_grad()
def embed_images(model: CLIP, images: Tensor) -> Tensor:
    """Images [N, 3, H, W] in 0 to 1 to normalised embeddings [N, D]."""
    size = model.visual.input_resolution
    small = normalize(F.adaptive_avg_pool2d(images, size))
    return torch.cat([F.normalize(model.encode_image(part)) for part in torch.split(small, 256)])


def accuracies(model: CLIP, pictures: list[Picture], unseen: dict[str, str]) -> dict[str, float]:
    """How often names and unseen paraphrases find their picture, and pictures their name."""
    image = embed_images(model, to_tensor(pictures))
    names = embed_texts(model, [p.name for p in pictures])
    index = {p.name: i for i, p in enumerate(pictures)}
    own = torch.arange(len(pictures))
    text = embed_texts(model, list(unseen.values()))
    target = torch.tensor([index[name] for name in unseen])
    hits = {
        "name to picture": (names @ image.T).argmax(1) == own,
        "picture to name": (image @ names.T).argmax(1) == own,
        "cosine": (names * image).sum(1),
        "paraphrase to picture": (text @ image.T).argmax(1) == target,
        "paraphrase to name": (text @ names.T).argmax(1) == target,
    }
    return {name: found.float().mean().item() for name, found in hits.items()}


def train(
    pictures: list[Picture],
    unseen: dict[str, str],
    state: Path,
    recipe: Recipe,
    start: CLIP | None = None,
) -> CLIP:
    """Train a model, by default a fresh one, to the end of the recipe, on from `state`."""
    torch.manual_seed(recipe.seed)
    model = start or fresh_model()
    images = to_tensor(pictures)
    may = torch.tensor([not p.recoloured for p in pictures])
    parameters = groups(model.parameters(), recipe.lr, recipe.weight_decay)
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), eps=1e-6, fused=True)
    seen = torch.zeros(DIMENSIONS["vocab_size"], dtype=torch.bool)
    first = restore(state, model, optimizer, {"seen": seen})
    model.train()
    for step in steps_of(recipe, optimizer, "CLIP", first):
        rng = random.Random(recipe.seed * 1_000_003 + step)
        chosen = rng.sample(range(len(pictures)), min(recipe.batch, len(pictures)))
        text = tokens([random_caption(pictures[i], recipe.word_dropout, rng) for i in chosen])
        seen[torch.unique(text)] = True
        shown = changed(images[chosen], may[chosen], rng)
        views = normalize(random_views(shown, recipe.noise, rng))
        with torch.autocast("cpu", torch.bfloat16):
            logits, _ = model(views, text)
            own = torch.arange(len(logits))
            loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        descend(loss, optimizer, model)
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        if (step + 1) % 200 == 0 or step + 1 == recipe.steps:
            model.eval()
            figures = accuracies(model, pictures, unseen)
            model.train()
            tqdm.write(f"CLIP {step + 1} loss {loss.item():.3f} " + show(figures))
            save_run(state, step + 1, model, optimizer, {"seen": seen})
    silence(model, seen)
    return model.eval().requires_grad_(False)


def show(figures: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in figures.items())


def tune_text(model: CLIP, pictures: list[Picture], unseen: dict[str, str], recipe: Recipe) -> None:
    """Teach the text tower more words, in place, without moving the pictures' embeddings.

    A caption is told apart from all pictures at once, not only from those of its batch.
    """
    rng = random.Random(recipe.seed)
    model.requires_grad_(False)
    image = embed_images(model, to_tensor(pictures))
    scale = model.logit_scale.exp()
    towers = (model.transformer, model.token_embedding, model.ln_final)
    parameters = [p for tower in towers for p in tower.parameters()]
    parameters += [model.text_projection, model.positional_embedding]
    for p in parameters:
        p.requires_grad_(True)
    group = {"params": parameters, "peak": recipe.lr, "weight_decay": recipe.weight_decay}
    optimizer = torch.optim.AdamW([group], betas=(0.9, 0.98), fused=True)
    for step in steps_of(recipe, optimizer, "CLIP's text tower"):
        chosen = torch.tensor([rng.randrange(len(pictures)) for _ in range(recipe.batch)])
        texts = [random_caption(pictures[i], recipe.word_dropout, rng) for i in chosen]
        with torch.autocast("cpu", torch.bfloat16):
            text = F.normalize(model.encode_text(tokens(texts)).float())
        loss = F.cross_entropy(scale * text @ image.T, chosen)
        descend(loss, optimizer)
        if (step + 1) % 200 == 0:
            figures = accuracies(model, pictures, unseen)
            tqdm.write(f"text tower {step + 1} loss {loss.item():.3f} " + show(figures))
    model.requires_grad_(False)
    known = torch.unique(tokens([c for p in pictures for c in (*p.captions, *PREFIXES)]))
    silence(model, torch.isin(torch.arange(DIMENSIONS["vocab_size"]), known))


@torch.no_grad()
def silence(model: CLIP, known: Tensor) -> None:
    """Make words that are not known say nothing, rather than something at random."""
    model.token_embedding.weight[~known] = 0
