"""What decides a picture, and nothing else. Importing this imports no torch."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from checkpoints import store
from diffusion import get_models
from diffusion.methods import METHODS, STOCHASTIC, TAKES_ETA

from .prompts import parse_prompt
from .shell import MANY, UserError, number, whole_number

LAST_SEED = 2**64 - 1
MOST_STEPS = 10**6
LARGEST = 3.4e38  # that fp32 holds
OF_CARD: Any = None  # a default that the model's card has
# What numbers there may be, as an option and from Python.
NUMBERS: dict[str, Callable[[str], Any]] = {
    "clip_guidance_scale": number(),
    "eta": number(0, 1),
    "seed": whole_number(0, LAST_SEED),
    "steps": whole_number(1, MANY),
}


def models() -> list[str]:
    """The models that a job can be drawn with, by name: those with defaults on their card."""
    cards = store.cards()
    return [name for name in get_models() if cards[name].sampling]


class JobError(UserError, ValueError):
    """There is no such job. Its text is the whole message, one line."""


@dataclass(frozen=True)
class Job:
    """Everything that decides a picture.

    Args:
        prompts: the text prompts, each with its weight after a colon if that isn't 1.
        images: the image prompts, paths or addresses, likewise.
        model: one of `models()`.
        checkpoint, clip_checkpoint: the files of the model and of its CLIP, where they aren't the
            published or shipped ones.
        method: one of `diffusion.methods.METHODS`; by default `ddpm` or `ddim`, as eta says.
        steps: 1 to 1,000,000.
        eta: the share of fresh noise in a step, 0 to 1, for the methods that have a choice.
        clip_guidance_scale: how strongly CLIP guides; 0: not at all.
        seed: 0 to 2^64 - 1.

    Raises:
        JobError: something of it can't be.
    """

    prompts: Sequence[str] = ()
    images: Sequence[str] = ()
    model: str = "cc12m_1"
    checkpoint: str | None = None
    clip_checkpoint: str | None = None
    method: str = OF_CARD
    steps: int = OF_CARD
    eta: float = OF_CARD
    clip_guidance_scale: float = OF_CARD
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in settled(self).items():
            object.__setattr__(self, name, value)

    def with_seed(self, seed: int) -> Job:
        """This job with another seed, 0 to 2^64 - 1, which isn't checked."""
        other = copy.copy(self)
        object.__setattr__(other, "seed", seed)
        return other

    @property
    def batch_key(self) -> tuple[object, ...]:
        """What jobs have in common that can be drawn in one batch."""
        files = self.model, self.checkpoint, self.clip_checkpoint
        return *files, self.method, self.steps, self.eta, self.clip_guidance_scale != 0

    def command(self) -> str:
        """A line for a shell that makes just this picture."""
        line = ["./clip_sample.py", "--model", self.model, "--steps", str(self.steps)]
        if self.method not in ("ddpm", "ddim"):  # which eta tells apart
            line += ["--method", self.method]
        line += ["--eta", repr(self.eta), "--clip-guidance-scale", repr(self.clip_guidance_scale)]
        for option in ("checkpoint", "clip_checkpoint"):
            if getattr(self, option) is not None:
                line += [f"--{option.replace('_', '-')}", getattr(self, option)]
        if self.images:
            line += ["--images", *self.images]
        line += ["--seed", str(self.seed), "-n", "1"]
        return shlex.join([*line, "--", *self.prompts] if self.prompts else line)


def merged(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options by name and changes to them.

    Method and eta belong together: a change of the one without the other leaves the other to its
    default, but for an eta of a method that has a choice.
    """
    kept = dict(options)
    if "method" in changes:
        kept.pop("eta", None)
    elif "eta" in changes and kept.get("method") in ("ddpm", "ddim"):
        kept.pop("method")
    return kept | dict(changes)


def settled(job: Job) -> dict[str, Any]:
    """The fields of a job, checked, with the defaults of the model's card.

    Raises:
        JobError: something of it can't be.
    """
    own = {field.name: getattr(job, field.name) for field in dataclasses.fields(job)}
    for name in ("prompts", "images"):
        own[name] = texts(name, own[name])
    if own["model"] not in models():
        raise JobError(f"no model {own['model']!r}: there are {', '.join(models())}")
    for name, parse in NUMBERS.items():
        try:
            own[name] = None if own[name] is None else parse(str(own[name]))
        except argparse.ArgumentTypeError as error:
            raise JobError(f"{name.replace('_', ' ')}: {error}") from None
    card = store.cards()[own["model"]].sampling
    own["method"], own["eta"] = method_and_eta(own["method"], own["eta"], card["eta"])
    own |= {name: value for name, value in card.items() if own[name] is None}
    if own["seed"] is None:
        own["seed"] = 0
    if own["steps"] > MOST_STEPS:
        raise JobError(f"steps: {own['steps']} are too many; take {MOST_STEPS} at most")
    if not own["prompts"] and not own["images"]:
        raise JobError("no prompt: give at least one text, or an image with --images")
    weights = [parse_prompt(prompt)[1] for prompt in own["prompts"] + own["images"]]
    if abs(sum(weights)) < 1e-3:
        raise JobError("the prompts' weights sum to 0; change one of them")
    if max(map(abs, [*weights, sum(weights)])) > LARGEST:
        raise JobError("the prompts' weights are too large; scale them down")
    return own


def texts(name: str, value: object) -> tuple[str, ...]:
    """One text or several as a tuple."""
    found = (value,) if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)) or not all(isinstance(text, str) for text in found):
        raise JobError(f"{name}: {value!r} is neither a text nor a list of texts")
    return tuple(found)


def method_and_eta(method: str | None, eta: float | None, of_card: float) -> tuple[str, float]:
    """The method, of DDPM and DDIM the one that eta says where none is named, and its eta."""
    if method is None:
        eta = of_card if eta is None else eta
        return ("ddpm" if eta == 1 else "ddim"), eta
    if method not in METHODS:
        raise JobError(f"no method {method!r}: there are {', '.join(METHODS)}")
    own = float(method in STOCHASTIC)
    if eta is None or eta == own:
        return method, own
    if method in TAKES_ETA:
        return method, eta
    if method == "ddpm":
        raise JobError("--eta: the method ddpm has eta 1; for another eta say --method ddim")
    raise JobError(f"--eta: the method {method} draws no noise; leave --eta out")
