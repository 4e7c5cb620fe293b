"""Measures how often emoji_64 draws what it is asked: in pixels, and to CLIP's eye."""

import argparse
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from CLIP import prompts
from CLIP.model import CLIP
from diffusion import utils
from v_diffusion.images.inputs import Input, Inputs
from v_diffusion.job.job import Job
from v_diffusion.job.script import CFG_SAMPLE
from v_diffusion.studio.models import Models
from v_diffusion.studio.sample import sample
from v_diffusion.studio.studio import Studio
from v_diffusion.studio.targets import make_targets
from v_diffusion.weights import store

from . import data
from .clip import embed_images, embed_texts, to_tensor
from .views import CHANGES

STEPS, ETA, SEED = 25, 0.0, 0
BATCH = 31
FEWER_IMAGES = 4
CPU = torch.device("cpu")


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
    """Return a job for each text; unless told otherwise, by DDIM and all from one seed."""
    how: dict[str, Any] = {"model": "emoji_64", "clip_guidance_scale": guidance, "steps": steps}
    how |= options or {"eta": ETA}
    return [
        Job([text], seed=seed, **how) for text, seed in zip(texts, seeds or [SEED] * len(texts))
    ]


def cfg_jobs(texts: Sequence[str]) -> list[Job]:
    """Return a job for each text, by the defaults of `cfg_sample.py`."""
    how: dict[str, Any] = {"model": "emoji_64", "script": CFG_SAMPLE.name, "seed": SEED}
    return [Job([text], **how) for text in texts]


def draw(models: Models, asked: Sequence[Job], inputs: Sequence[Inputs] = ()) -> Tensor:
    """Draw jobs as the scripts do.

    Args:
        inputs: the pictures that each is given, if any is.

    Returns:
        [N, 3, 64, 64] in 0 to 1.
    """
    out = []
    encode_text = partial(prompts.encode_text, device=CPU)
    for i in tqdm(range(0, len(asked), BATCH), desc="drawing", disable=None):
        some = asked[i : i + BATCH]
        given = inputs[i : i + BATCH] or [Inputs()] * len(some)
        targets = make_targets(some, given, models, encode_text, CPU)
        out.append((sample(some, models, targets, CPU).clamp(-1, 1) + 1) / 2)
    return torch.cat(out)


def draw_towards(models: Models, images: Tensor, guidance: float, steps: int = STEPS) -> Tensor:
    """Draw with each image [N, 3, 64, 64] in 0 to 1 as a prompt. Returns as `draw`."""
    how: dict[str, Any] = {"model": "emoji_64", "clip_guidance_scale": guidance}
    job = Job(images=["picture"], seed=SEED, steps=steps, eta=ETA, **how)
    pictures = [Input(utils.to_pil_image(x * 2 - 1), "") for x in images]
    return draw(models, [job] * len(images), [Inputs((picture,)) for picture in pictures])


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


def load() -> Models:
    """Return the model and its CLIP as they ship."""
    return Studio("cpu").load(Job(["fox"], model="emoji_64"))


def rows(figures: list[Figures]) -> str:
    """The figures as a Markdown table."""
    head = "| drawn by | asked by | prompts | nearest picture | CLIP's first name | a picture |\n"
    head += "|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| {f.way} | {f.prompts} | {f.count} | {f.nearest:.1%} | {f.ranked:.1%} "
        f"| {f.seconds:.2f} s |\n"
        for f in figures
    )


def measure(models: Models, pictures: list[data.Picture], every: int = 1) -> list[Figures]:
    """Return the figures of the card: of text prompts without help and as both scripts draw by
    default, and of the emoji themselves as image prompts, as they are and changed.

    Args:
        every: measure every so many of each kind of prompts, and fewer images, for time.
    """
    own = store.cards()["emoji_64"].sampling["clip_guidance_scale"]
    by_clip = f"`clip_sample.py`, guidance {own:g}"
    ways: dict[str, Callable[[Sequence[str]], list[Job]]] = {
        "`clip_sample.py`, guidance 0": partial(jobs, guidance=0.0),
        by_clip: partial(jobs, guidance=own),
        f"`cfg_sample.py`, weight {CFG_SAMPLE.prompt_weight:g}": cfg_jobs,
    }
    judge = Judge(models.clip, pictures)
    out = []

    def add(way: str, kind: str, wanted: list[str], drawing: Callable[[], Tensor]) -> None:
        begun = time.monotonic()
        drawn = drawing()
        spent = (time.monotonic() - begun) / len(wanted)
        near, ranked = (right.float().mean().item() for right in judge(drawn, wanted))
        out.append(Figures(way, kind, len(wanted), near, ranked, spent))

    for way, jobs_of in ways.items():
        for kind, texts, wanted in asked(pictures, every):
            add(way, kind, wanted, partial(draw, models, jobs_of(texts)))
    shown = [p for p in pictures if not p.recoloured][:: every * FEWER_IMAGES]
    names, images = [p.name for p in shown], torch.split(to_tensor(shown), 1)
    for kind, change in {"as it is": lambda image, _: image, **CHANGES}.items():
        rng = random.Random(SEED)
        given = torch.cat([change(image, rng) for image in images])
        add(by_clip, f"pictures, {kind}", names, partial(draw_towards, models, given, own))
    return out


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--every", type=int, default=1, help="measure on every so many names only")
    print(rows(measure(load(), data.load(), p.parse_args().every)), end="")


if __name__ == "__main__":
    main()
