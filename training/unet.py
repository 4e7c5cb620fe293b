"""Trains emoji_64's sketch, in closed form, and then its U-Net around it."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from CLIP.model import CLIP
from diffusion import utils
from diffusion.models.blocks import unit_scale
from diffusion.models.emoji_64 import EMBED_DIM, Emoji64Model, Sketch

from . import clip as small_clip
from .clip import Recipe as ClipRecipe
from .clip import embed_images, embed_texts, random_caption
from .data import Picture
from .state import descend, groups, restore, save_run, steps_of
from .views import changed, random_views


@dataclass(frozen=True)
class Recipe:
    steps: int = 5100
    batch: int = 32
    lr: float = 1.5e-3
    warmup: int = 150
    weight_decay: float = 0.01
    ema: float = 0.999
    image_share: float = 0.2  # how often the condition is an image's embedding, not a text's
    left_out: float = 0.15  # how often there is no condition: all zeros
    noise: float = 0.25  # length of the noise on embeddings of length 1, at most
    ridge: float = 1e-3
    sketch_rate: float = 0.01  # the sketch's learning rate, as a share of the U-Net's
    seed: int = 0


@dataclass(frozen=True)
class Embeddings:
    """What the pictures are conditioned on: normalised embeddings, and whose each is."""

    texts: Tensor  # [T, D]
    text_owner: Tensor  # [T], index of the picture
    text_start: Tensor  # [P], a picture's first row of texts
    text_count: Tensor  # [P]
    images: Tensor  # [P, V, D], V views of each picture


def embeddings(model: CLIP, pictures: list[Picture], recipe: Recipe) -> Embeddings:
    """Each caption as it is and as training varies it, and random views of each picture."""
    rng = random.Random(recipe.seed)
    torch.manual_seed(recipe.seed)
    texts, owners = [], []
    for i, picture in enumerate(pictures):
        own = [picture.name] * 4 + list(picture.captions)
        own += [
            random_caption(picture, ClipRecipe.word_dropout, rng)
            for _ in range(len(picture.captions))
        ]
        texts += own
        owners += [i] * len(own)
    owner = torch.tensor(owners)
    count = owner.bincount(minlength=len(pictures))
    images = small_clip.to_tensor(pictures)
    views = [embed_images(model, images)]
    views += [embed_images(model, random_views(images, 0.1, rng)) for _ in range(5)]
    may = torch.tensor([not p.recoloured for p in pictures])
    for _ in range(8):  # an image prompt's embedding is the mean of its cutouts'
        prompts = changed(images, may, rng)
        cutouts = [embed_images(model, random_views(prompts, 0.1, rng)) for _ in range(4)]
        views.append(F.normalize(torch.stack(cutouts).mean(0)))
    text = embed_texts(model, texts)
    return Embeddings(text, owner, count.cumsum(0) - count, count, torch.stack(views, 1))


def perturb(embed: Tensor, noise: float) -> Tensor:
    """Normalised embeddings [B, D] with up to `noise` of random direction added."""
    off = torch.randn_like(embed) * (embed.shape[1] ** -0.5) * torch.rand(len(embed), 1) * noise
    return F.normalize(embed + off)


@torch.no_grad()
def fit_sketch(model: Emoji64Model, data: Embeddings, targets: Tensor, recipe: Recipe) -> None:
    """Ridge regression from random ReLU features of the embeddings to the pictures at 32x32.

    Args:
        targets: the pictures, [P, 3, 64, 64] in -1 to 1.
    """
    torch.manual_seed(recipe.seed)
    sketch = model.sketch
    small = F.interpolate(targets, (sketch.size,) * 2, mode="area").flatten(1)
    mean = small.mean(0)
    rank = sketch.pixels.in_features
    _, scale, basis = torch.linalg.svd(small - mean, full_matrices=False)
    unit = scale[:rank].mean() / len(small) ** 0.5
    sketch.pixels.weight.copy_(basis[:rank].T * unit)
    sketch.pixels.bias.copy_(mean)
    nn.init.normal_(sketch.features.weight, std=EMBED_DIM**-0.5)
    nn.init.normal_(sketch.features.bias, std=0.5)
    fit_coefficients(model, data, targets, recipe)
    embeds, owner = conditions(data, copies=1, noise=recipe.noise)
    guess = F.interpolate(sketch(embeds * EMBED_DIM**0.5), targets.shape[2:], mode="bilinear")
    error = torch.cat(
        [
            (g - targets[o]).pow(2).flatten(1).mean(1)
            for g, o in zip(torch.split(guess, 500), torch.split(owner, 500))
        ]
    )
    sketch.spread.fill_(error.mean().sqrt())


@torch.no_grad()
def fit_coefficients(
    model: Emoji64Model, data: Embeddings, targets: Tensor, recipe: Recipe
) -> None:
    """Solves for the sketch's coefficients, to its features and components as they are."""
    torch.manual_seed(recipe.seed)
    sketch = model.sketch
    small = F.interpolate(targets, (sketch.size,) * 2, mode="area").flatten(1)
    coefficients = torch.linalg.lstsq(sketch.pixels.weight, (small - sketch.pixels.bias).T)
    embeds, owner = conditions(data, copies=3, noise=recipe.noise)
    phi = F.relu(sketch.features(embeds * EMBED_DIM**0.5))
    phi = torch.cat([phi, torch.ones(len(phi), 1)], dim=1)
    gram = (phi.T @ phi).double() / len(phi)
    gram.diagonal().add_(recipe.ridge)
    wanted = coefficients.solution.T[owner]
    solved = torch.linalg.solve(gram, (phi.T @ wanted).double() / len(phi)).float()
    sketch.coefficients.weight.copy_(solved[:-1].T)
    sketch.coefficients.bias.copy_(solved[-1])
    teach_nothing(model, data, recipe)


@torch.no_grad()
def teach_nothing(model: Emoji64Model, data: Embeddings, recipe: Recipe) -> None:
    """Makes the sketch of the zero embedding the mean of all pictures.

    Of all changes of its last features' weights that do so, the one that changes the other
    sketches least, in the metric of the ridge regression.
    """
    torch.manual_seed(recipe.seed)
    sketch = model.sketch
    embeds, _ = conditions(data, copies=1, noise=recipe.noise)
    phi, zero = (
        F.pad(F.relu(sketch.features(e * EMBED_DIM**0.5)), (0, 1), value=1.0).double()
        for e in (embeds, torch.zeros(1, EMBED_DIM))
    )
    gram = phi.T @ phi / len(phi)
    gram.diagonal().add_(recipe.ridge)
    way = torch.linalg.solve(gram, zero[0])
    # The mean picture is what no coefficient at all gives.
    change = torch.outer(sketch.coefficients(zero[0, :-1].float()).double(), way) / (zero[0] @ way)
    sketch.coefficients.weight.sub_(change[:, :-1])
    sketch.coefficients.bias.sub_(change[:, -1])


def conditions(data: Embeddings, copies: int, noise: float) -> tuple[Tensor, Tensor]:
    """Text embeddings `copies` times and image embeddings once, perturbed, and their owners."""
    pictures, views, dim = data.images.shape
    image_owner = torch.arange(pictures).repeat_interleave(views)
    embeds = torch.cat([data.texts.repeat(copies, 1), data.images.reshape(-1, dim)])
    return perturb(embeds, noise), torch.cat([data.text_owner.repeat(copies), image_owner])


def draw_condition(data: Embeddings, chosen: Tensor, recipe: Recipe) -> Tensor:
    """One embedding for each chosen picture [B], [B, D]: a text's, one of its views', or zeros."""
    offset = (torch.rand(len(chosen)) * data.text_count[chosen]).long()
    text = data.texts[data.text_start[chosen] + offset]
    view = torch.randint(data.images.shape[1], chosen.shape)
    image = data.images[chosen, view]
    is_image = torch.rand(len(chosen), 1) < recipe.image_share
    is_left_out = torch.rand(len(chosen), 1) < recipe.left_out
    return perturb(torch.where(is_image, image, text), recipe.noise).masked_fill(is_left_out, 0)


def groups_of(model: Emoji64Model, recipe: Recipe) -> list[dict[str, Any]]:
    """Return the optimizer's groups.

    The sketch starts at its best in closed form: at the U-Net's rate it would leave it in a few
    steps.
    """
    rest = [p for name, p in model.named_parameters() if not name.startswith("sketch.")]
    sketch = {"params": list(model.sketch.parameters()), "peak": recipe.lr * recipe.sketch_rate}
    return [{**sketch, "weight_decay": 0.0}, *groups(rest, recipe.lr, recipe.weight_decay)]


def loss_of(
    run: Callable[..., Tensor],
    sketch: Sketch,
    x0: Tensor,
    t: Tensor,
    embed: Tensor,
    spread: Tensor,
) -> Tensor:
    """The squared error of v, in units of the error that the sketch alone would make.

    Args:
        spread: how far pictures lie from their sketches: of an embedding, and of none.
    """
    alpha, sigma = (utils.append_dims(n, 4) for n in utils.t_to_alpha_sigma(t))
    eps = torch.randn_like(x0)
    with torch.autocast("cpu", torch.bfloat16):
        v = run(x0 * alpha + eps * sigma, t, embed, sketch(unit_scale(embed)))
    r = spread[embed.eq(0).all(1).long()][:, None, None, None]
    weight = (alpha**2 * r**2 + sigma**2) / r**2
    return ((v.float() - (eps * alpha - x0 * sigma)) ** 2 * weight).mean()


def init(model: Emoji64Model) -> None:
    """He initialisation; the last convolution starts at zero, and so the model at its sketch."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if name.endswith((".layer", "out_proj")):
            module.weight.data.mul_(0.2)
    last: Any = model.net[-1]
    for part in (last.main["4"], last.skip):
        nn.init.zeros_(part.weight)


@torch.no_grad()
def learn_things(model: Emoji64Model, clip_model: CLIP, pictures: list[Picture]) -> None:
    """Writes down what there is to draw: between each picture's embedding and its name's."""
    images = embed_images(clip_model, small_clip.to_tensor(pictures))
    names = embed_texts(clip_model, [picture.name for picture in pictures])
    model.known.embeds.copy_(F.normalize(images + names))


def begin(data: Embeddings, targets: Tensor, start: Path | None, recipe: Recipe) -> Emoji64Model:
    """The model before its first step: fresh, or from a file."""
    model = Emoji64Model()
    if start is None:
        init(model)
        fit_sketch(model, data, targets, recipe)
        tqdm.write(f"sketch: pictures lie {model.sketch.spread.item():.3f} from it")
    else:
        model.load_state_dict(torch.load(start, weights_only=True))
        fit_coefficients(model, data, targets, recipe)
    return model


def train(
    pictures: list[Picture],
    clip_model: CLIP,
    state: Path,
    recipe: Recipe,
    start: Path | None = None,
) -> Emoji64Model:
    """Train to the end of the recipe, on from `state` or else from the weights in `start`, and
    return the averaged weights.
    """
    torch.manual_seed(recipe.seed)
    data = embeddings(clip_model, pictures, recipe)
    targets = small_clip.to_tensor(pictures) * 2 - 1
    model = Emoji64Model() if state.is_file() else begin(data, targets, start, recipe)
    learn_things(model, clip_model, pictures)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(groups_of(model, recipe), betas=(0.9, 0.99), fused=True)
    average = {f"ema/{k}": v.detach().clone() for k, v in model.state_dict().items()}
    first = restore(state, model, optimizer, average)
    run: Callable[..., Tensor] = torch.compile(model)
    originals = torch.tensor([not p.recoloured for p in pictures])
    chance = torch.where(originals, 1.0, 0.5)
    spread = targets.std(0, correction=0).square().mean().sqrt()  # around their mean
    mean_loss = None
    for step in steps_of(recipe, optimizer, "U-Net", first):
        chosen = chance.multinomial(recipe.batch, replacement=False)
        t = (torch.arange(recipe.batch) + torch.rand(recipe.batch)) / recipe.batch
        embed = draw_condition(data, chosen, recipe)
        spreads = torch.stack([model.sketch.spread, spread])
        loss = loss_of(run, model.sketch, targets[chosen], t, embed, spreads)
        descend(loss, optimizer, model)
        decay = min(recipe.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            for k, v in model.state_dict().items():
                average[f"ema/{k}"].lerp_(v, 1 - decay)
        mean_loss = loss.item() if mean_loss is None else 0.98 * mean_loss + 0.02 * loss.item()
        if (step + 1) % 100 == 0:
            tqdm.write(f"U-Net {step + 1} loss {mean_loss:.4f}")
        if (step + 1) % 500 == 0 or step + 1 == recipe.steps:
            save_run(state, step + 1, model, optimizer, average)
    model.load_state_dict({k.removeprefix("ema/"): v for k, v in average.items()})
    return model.eval().requires_grad_(False)
