"""Measures how often emoji_64 draws what it is asked: in pixels, and to CLIP's eye."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from checkpoints import store
from CLIP import clip
from CLIP.model import CLIP
from drawing.draw import Aim, Models, sample
from drawing.job import Job
from drawing.studio import load_model

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


def jobs(
    texts: Sequence[str],
    guidance: float,
    seeds: Sequence[int] | None = None,
    steps: int = STEPS,
    **options: Any,
) -> list[Job]:
    """A job for each text, all from one seed unless told otherwise.

    Args:
        options: the sampler; DDIM by default.
    """
    options = options or {"eta": ETA}
    return [
        Job(
            [text],
            model="emoji_64",
            clip_guidance_scale=guidance,
            seed=seed,
            steps=steps,
            **options,
        )
        for text, seed in zip(texts, seeds or [SEED] * len(texts))
    ]


def draw(models: Models, asked: Sequence[Job]) -> Tensor:
    """The picture of each job as the script makes it, its one prompt a text.

    Returns:
        [N, 3, 64, 64] in 0 to 1.
    """
    out = []
    for i in tqdm(range(0, len(asked), BATCH), desc="drawing", disable=None):
        some = asked[i : i + BATCH]
        target = embed_texts(models.clip, [job.prompts[0] for job in some])
        out.append((sample(some, models, Aim(target)).clamp(-1, 1) + 1) / 2)
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
    models: Models,
    pictures: list[data.Picture],
    guidance: float,
    every: int = 1,
) -> list[Figures]:
    """The figures for names, and for paraphrases of the same names: all, or `every` so many."""
    judge = Judge(models.clip, pictures)
    unseen = dict(list(data.paraphrases().items())[::every])
    out = []
    for kind, texts in (("names", list(unseen)), ("paraphrases", list(unseen.values()))):
        drawn = draw(models, jobs(texts, guidance))
        near, ranked = (right.float().mean().item() for right in judge(drawn, list(unseen)))
        out.append(Figures(guidance, kind, len(texts), near, ranked))
    return out


def load() -> Models:
    """The model and its CLIP as they ship."""
    device = torch.device("cpu")
    model = load_model("emoji_64", None, device)
    clip_model, _ = clip.load(str(model.clip_model), device=device)
    return Models(model, clip_model.requires_grad_(False))


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
    models = load()
    pictures = data.load()
    figures = []
    for guidance in args.guidance:
        figures += measure(models, pictures, guidance, args.every)
    print(rows(figures), end="")


if __name__ == "__main__":
    main()
