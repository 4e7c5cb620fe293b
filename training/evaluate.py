"""Measures how often emoji_64 draws what it is asked: in pixels, and to CLIP's eye."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

import clip_sample
from checkpoints import store
from CLIP import clip
from CLIP.model import CLIP

from . import data
from .clip import embed_images, embed_texts, to_tensor

STEPS, ETA, SEED = 50, 0.0, 0
BATCH = 31


@dataclass(frozen=True)
class Figures:
    """Shares, 0 to 1, of prompts whose picture is the one asked for."""

    guidance: float
    prompts: str
    count: int
    nearest: float  # the nearest of all training pictures is the one
    ranked: float  # CLIP ranks its name first among all training names


def options(
    guidance: float, steps: int = STEPS, eta: float = ETA, method: str = "ddpm"
) -> argparse.Namespace:
    """What the script's `run` takes from the command line."""
    return argparse.Namespace(
        steps=steps, eta=eta, clip_guidance_scale=guidance, method=method, checkpointing=False
    )


def draw(
    model: torch.nn.Module,
    clip_model: CLIP,
    texts: Sequence[str],
    args: argparse.Namespace,
    seeds: Sequence[int] | None = None,
) -> Tensor:
    """A picture of each text as the script makes it, all from one seed unless told otherwise.

    Returns:
        [N, 3, 64, 64] in 0 to 1.
    """
    seeds = seeds or [SEED] * len(texts)
    out = []
    for i in tqdm(range(0, len(texts), BATCH), desc="drawing", disable=None):
        target = embed_texts(clip_model, list(texts[i : i + BATCH]))
        picture = clip_sample.run(args, model, clip_model, target, seeds[i : i + BATCH])
        out.append((picture.clamp(-1, 1) + 1) / 2)
    return torch.cat(out)


def nearest(pictures: Tensor, known: Tensor) -> Tensor:
    """The index of the known picture [P, ...] nearest to each [N, ...] by squared error."""
    return torch.cdist(pictures.flatten(1), known.flatten(1)).argmin(dim=1)


class Judge:
    """What pictures are held against: the training pictures, and their names as CLIP sees them."""

    def __init__(self, clip_model: CLIP, pictures: list[data.Picture]) -> None:
        names = [p.name for p in pictures]
        self.clip_model = clip_model
        self.index = {name: i for i, name in enumerate(names)}
        self.known, self.name_embeds = to_tensor(pictures), embed_texts(clip_model, names)

    def __call__(self, drawn: Tensor, wanted: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Whether each picture [N, 3, 64, 64] in 0 to 1 is what was wanted, by name.

        Returns:
            Whether the nearest training picture is the one, [N], and whether CLIP ranks its name
            first among all names, [N].
        """
        asked = torch.tensor([self.index[name] for name in wanted])
        seen = embed_images(self.clip_model, drawn) @ self.name_embeds.T
        return nearest(drawn, self.known) == asked, seen.argmax(1) == asked


def measure(
    model: torch.nn.Module,
    clip_model: CLIP,
    pictures: list[data.Picture],
    guidance: float,
    every: int = 1,
) -> list[Figures]:
    """The figures for names, and for paraphrases of the same names: all, or `every` so many."""
    judge = Judge(clip_model, pictures)
    unseen = dict(list(data.paraphrases().items())[::every])
    out = []
    for kind, texts in (("names", list(unseen)), ("paraphrases", list(unseen.values()))):
        drawn = draw(model, clip_model, texts, options(guidance))
        near, ranked = (right.float().mean().item() for right in judge(drawn, list(unseen)))
        out.append(Figures(guidance, kind, len(texts), near, ranked))
    return out


def load() -> tuple[torch.nn.Module, CLIP]:
    """The model and its CLIP as they ship."""
    device = torch.device("cpu")
    model = clip_sample.load_model("emoji_64", None, device)
    return model, clip.load(model.clip_model, device=device)[0].requires_grad_(False)


def rows(figures: list[Figures]) -> str:
    """The figures as a Markdown table."""
    head = "| guidance | asked by | prompts | nearest picture | CLIP's first name |\n"
    head += "|---|---|---|---|---|\n"
    return head + "".join(
        f"| {f.guidance:g} | {f.prompts} | {f.count} | {f.nearest:.1%} | {f.ranked:.1%} |\n"
        for f in figures
    )


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    own = store.cards()["emoji_64"].sampling["clip_guidance_scale"]
    p.add_argument(
        "--guidance",
        type=float,
        nargs="*",
        default=sorted({0.0, own}),
        help="the scales to measure at",
    )
    p.add_argument("--every", type=int, default=1, help="measure on every so many names only")
    args = p.parse_args()
    model, clip_model = load()
    pictures = data.load()
    figures = []
    for guidance in args.guidance:
        figures += measure(model, clip_model, pictures, guidance, args.every)
    print(rows(figures), end="")


if __name__ == "__main__":
    main()
