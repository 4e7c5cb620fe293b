"""Measures how often emoji_64 draws what it is asked: in pixels, and to CLIP's eye."""

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from CLIP import prompts
from CLIP.guidance import CUTOUTS, MakeCutouts
from CLIP.model import CLIP
from diffusion import noise, utils
from v_diffusion.job.job import Job
from v_diffusion.job.prompt import Prompt
from v_diffusion.job.script import CFG_SAMPLE
from v_diffusion.studio.models import Models, for_drawing, load_clip, load_model
from v_diffusion.studio.sample import sample
from v_diffusion.studio.targets import Targets
from v_diffusion.weights import store

from . import data
from .clip import embed_images, embed_texts, to_tensor
from .views import CHANGES

STEPS, ETA, SEED = 25, 0.0, 0
BATCH = 31
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Way:
    """A way of drawing: guided by CLIP at a scale, or classifier-free with a weight.

    Without CLIP's guidance, and with weight 1, the network's own idea is drawn.
    """

    guidance: float = 0.0
    weight: float | None = None

    @property
    def name(self) -> str:
        if self.weight is not None:
            return f"`cfg_sample.py`, weight {self.weight:g}"
        return f"`clip_sample.py`, guidance {self.guidance:g}"

    def jobs(self, texts: Sequence[str]) -> list[Job]:
        """A job for each text, by the defaults of the script."""
        if self.weight is None:
            return jobs(texts, self.guidance)
        script = CFG_SAMPLE.name
        prompts = [Prompt(text, self.weight) for text in texts]
        return [Job([one], model="emoji_64", script=script, seed=SEED) for one in prompts]


@dataclass(frozen=True)
class Figures:
    """Shares, 0 to 1, of prompts whose picture is the one asked for."""

    way: str
    prompts: str
    count: int
    nearest: float  # the nearest of all training pictures is the one
    ranked: float  # CLIP ranks its name first among all training names
    seconds: float  # that a picture takes, in batches of BATCH


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
        target = embed_texts(models.clip, [job.prompts[0].text for job in some])
        targets = Targets(target)
        if some[0].script == CFG_SAMPLE.name:
            weights = torch.tensor([job.prompts[0].weight for job in some])
            both = torch.stack([torch.zeros_like(target), target])
            targets = Targets(both, torch.stack([1 - weights, weights]))
        out.append((sample(some, models, targets, CPU).clamp(-1, 1) + 1) / 2)
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


def asked(pictures: list[data.Picture], every: int) -> Iterator[tuple[str, list[str], list[str]]]:
    """Kinds of text prompts, the prompts, and the names of the pictures that they ask for.

    Args:
        every: of each kind every so many.
    """
    unseen = dict(list(data.paraphrases().items())[::every])
    yield "names", list(unseen), list(unseen)
    yield "paraphrases", list(unseen.values()), list(unseen)
    coloured = [p.name for p in pictures if p.recoloured][::every]
    yield "things in another colour", coloured, coloured


def measure(
    models: Models,
    pictures: list[data.Picture],
    way: Way,
    every: int = 1,
) -> list[Figures]:
    """The figures of every kind of text prompts: all of them, or `every` so many."""
    judge = Judge(models.clip, pictures)
    out = []
    for kind, texts, wanted in asked(pictures, every):
        begun = time.monotonic()
        drawn = draw(models, way.jobs(texts))
        seconds = (time.monotonic() - begun) / len(texts)
        near, ranked = (right.float().mean().item() for right in judge(drawn, wanted))
        out.append(Figures(way.name, kind, len(texts), near, ranked, seconds))
    return out


def target_of(clip_model: CLIP, image: Tensor) -> Tensor:
    """The target of an image prompt [3, 64, 64] in 0 to 1, as `clip_sample.py` has it: [1, D]."""
    cutouts = MakeCutouts(clip_model.visual.input_resolution, CUTOUTS)
    (stream,) = noise.streams([SEED])
    picture = utils.to_pil_image(image * 2 - 1)
    encoded = prompts.encode_image(clip_model, picture, cutouts, data.SIZE, stream)
    return prompts.combine([(encoded, 1.0)])


def measure_images(
    models: Models, pictures: list[data.Picture], guidance: float, every: int = 1
) -> list[Figures]:
    """The figures of the emoji themselves as image prompts, as they are and changed."""
    judge = Judge(models.clip, pictures)
    shown = [p for p in pictures if not p.recoloured][::every]
    images, wanted = to_tensor(shown), [p.name for p in shown]
    out = []
    for kind, change in {"as it is": None, **CHANGES}.items():
        rng = random.Random(SEED)
        begun = time.monotonic()
        each = torch.split(images, 1)
        given = torch.cat([one if change is None else change(one, rng) for one in each])
        targets = torch.cat([target_of(models.clip, image) for image in given])
        drawn = []
        for target in torch.split(targets, BATCH):
            some = jobs(["picture"] * len(target), guidance)
            drawn.append((sample(some, models, Targets(target), CPU).clamp(-1, 1) + 1) / 2)
        seconds = (time.monotonic() - begun) / len(shown)
        near, ranked = (right.float().mean().item() for right in judge(torch.cat(drawn), wanted))
        what = f"pictures, {kind}"
        out.append(Figures(Way(guidance).name, what, len(shown), near, ranked, seconds))
    return out


def load() -> Models:
    """The model and its CLIP as they ship."""
    model = load_model("emoji_64", None, CPU)
    clip_model = load_clip(store.obtain(str(model.clip_model)), CPU)
    return for_drawing(Models(model, clip_model), CPU, checkpointing=False)


def rows(figures: list[Figures]) -> str:
    """The figures as a Markdown table."""
    head = "| drawn by | asked by | prompts | nearest picture | CLIP's first name | a picture |\n"
    head += "|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| {f.way} | {f.prompts} | {f.count} | {f.nearest:.1%} | {f.ranked:.1%} "
        f"| {f.seconds:.2f} s |\n"
        for f in figures
    )


def own_guidance() -> float:
    """The scale that the card has."""
    return store.cards()["emoji_64"].sampling["clip_guidance_scale"]


def ways() -> list[Way]:
    """Those that the card has: without help, and as both scripts draw by default."""
    return [Way(), Way(own_guidance()), Way(weight=CFG_SAMPLE.prompt_weight)]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--guidance", type=float, nargs="*", help="scales to measure at")
    p.add_argument("--weights", type=float, nargs="*", help="classifier-free weights")
    p.add_argument("--every", type=int, default=1, help="measure on every so many names only")
    args = p.parse_args()
    models = load()
    pictures = data.load()
    figures = []
    chosen = [Way(scale) for scale in args.guidance or ()]
    chosen += [Way(weight=weight) for weight in args.weights or ()]
    for way in chosen or ways():
        figures += measure(models, pictures, way, args.every)
    if not chosen:
        figures += measure_images(models, pictures, own_guidance(), args.every)
    print(rows(figures), end="")


if __name__ == "__main__":
    main()
