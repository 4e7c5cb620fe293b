"""What decides a picture, and nothing else. Importing this imports no torch."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffusion.methods import STOCHASTIC, TAKES_ETA

from ..shell.addresses import scrubbed, without_secrets
from ..shell.program import UserError
from ..weights import store
from .limits import LARGEST, NUMBERS, SIDE
from .prompt import parse_prompt, write_prompt
from .quoting import quoted
from .script import CFG_MODIFY_IMAGE, CLIP_SAMPLE, SCRIPTS, Script, not_of

UNSAID: Any = None  # the script's default, or that of the model's card
NOTHING = {  # what is wrong with a prompt that is but a weight, and what to do
    "prompts": "has no words; give some",
    "images": "names no picture; give a file or an address",
}


class JobError(UserError, ValueError):
    """There is no such job. Its text is the whole message, one line."""


@dataclass(frozen=True)
class Job:
    """Everything that decides a picture.

    Args:
        prompts: the text prompts, each with its weight after a colon if that isn't the script's.
        images: the image prompts, paths or addresses, likewise.
        model: one that the script draws with.
        checkpoint, clip_checkpoint: the files of the model and of its CLIP, where they aren't the
            published or shipped ones.
        clip: the CLIP that guides a model that takes no embedding, by name.
        method: one of `diffusion.methods.METHODS`; by default `ddpm` or `ddim`, as eta says, or
            without CLIP's guidance `plms`.
        steps: 1 to 1,000,000.
        eta: the share of fresh noise in a step, 0 to 1, for the methods that have a choice.
        clip_guidance_scale: how strongly CLIP guides; 0: not at all.
        cutn, cut_pow: how many cutouts CLIP looks at, and their sizes' power.
        init: a picture to start from, a path or an address.
        starting_timestep: of its noise, 0 to 1.
        max_timestep: how far it is taken to noise, 0 to 1.
        size: width and height in pixels.
        seed: 0 to 2^64 - 1.
        script: one of `scripts.SCRIPTS`; of the above a job has what that has.

    Raises:
        JobError: something of it can't be.
    """

    prompts: Sequence[str] = ()
    images: Sequence[str] = ()
    model: str = UNSAID
    checkpoint: str | None = None
    clip_checkpoint: str | None = None
    clip: str = UNSAID
    method: str = UNSAID
    steps: int = UNSAID
    eta: float = UNSAID
    clip_guidance_scale: float = UNSAID
    cutn: int = UNSAID
    cut_pow: float = UNSAID
    init: str | None = None
    starting_timestep: float = UNSAID
    max_timestep: float = UNSAID
    size: tuple[int, int] = UNSAID
    seed: int = 0
    script: str = CLIP_SAMPLE.name

    def __post_init__(self) -> None:
        for name, value in settled(self).items():
            object.__setattr__(self, name, value)

    def with_seed(self, seed: int) -> Job:
        """This job with another seed, 0 to 2^64 - 1, which isn't checked."""
        other = copy.copy(self)
        object.__setattr__(other, "seed", seed)
        return other

    @property
    def prompt_weight(self) -> float:
        """The weight of a prompt that says none."""
        return SCRIPTS[self.script].prompt_weight

    @property
    def asks_clip(self) -> bool:
        """Whether CLIP is needed at all."""
        return bool(self.prompts or self.images)

    @property
    def batch_key(self) -> tuple[object, ...]:
        """What jobs have in common that can be drawn in one batch."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for own in ("prompts", "images", "init", "seed"):
            del values[own]
        values["clip_guidance_scale"] = self.clip_guidance_scale != 0
        # Without CLIP's guidance each prompt is a row of its own in the network.
        many = len(self.prompts) + len(self.images) if self.script != CLIP_SAMPLE.name else 0
        return *values.values(), self.init is not None, self.asks_clip, many

    def command(self) -> str:
        """A line for a shell that makes just this picture, for who knows the secrets that are left
        out of its addresses.
        """
        line = [f"./{self.script}.py", "--model", self.model, "--steps", str(self.steps)]
        script, card = SCRIPTS[self.script], store.cards()[self.model]
        usual = {**script.defaults, "size": (card.side, card.side), "clip": card.clip or GUIDE}
        if self.method not in ("ddpm", "ddim"):  # which eta tells apart
            line += ["--method", self.method]
        elif not script.has("clip_guidance_scale"):
            line += ["--method", "ddim"]
        if script.has("eta") and self.method in (*TAKES_ETA, *STOCHASTIC):
            line += ["--eta", repr(self.eta)]
        if script.has("clip_guidance_scale"):
            line += ["--clip-guidance-scale", repr(self.clip_guidance_scale)]
        for option in ("checkpoint", "clip", "clip_checkpoint", "cutn", "cut_pow"):
            value = getattr(self, option)
            if value not in (None, usual.get(option)):
                line += [f"--{option.replace('_', '-')}", str(value)]
        if self.size != usual["size"]:
            line += ["--size", *map(str, self.size)]
        if self.images:
            parsed = [parse_prompt(image, self.prompt_weight) for image in self.images]
            public = [(without_secrets(path), weight) for path, weight in parsed]
            line += ["--images", *(write_prompt(*one, self.prompt_weight) for one in public)]
        init = None if self.init is None else without_secrets(self.init)
        if script is CFG_MODIFY_IMAGE:
            line += ["--max-timestep", repr(self.max_timestep), "--", str(init)]
        else:
            if init is not None:
                line += ["--init", init, "--starting-timestep", repr(self.starting_timestep)]
            line += ["--seed", str(self.seed), "-n", "1", *["--"] * bool(self.prompts)]
        return " ".join([shlex.join(line), *map(quoted, self.prompts)])


GUIDE = "ViT-B/16"  # the CLIP that guides a model that has none


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
    """The fields of a job, checked, with the defaults of its script and of the model's card.

    Raises:
        JobError: something of it can't be.
    """
    own = {field.name: getattr(job, field.name) for field in dataclasses.fields(job)}
    if own["script"] not in SCRIPTS:
        raise JobError(f"no script {own['script']!r}: there are {', '.join(SCRIPTS)}")
    script = SCRIPTS[own["script"]]
    if own["seed"] is None or not script.has("seed"):
        own["seed"] = 0
    for name, value in own.items():
        if value is not None and name not in ("seed", "script") and not script.has(name):
            raise JobError(not_of(name, script))
    for name in ("checkpoint", "clip_checkpoint", "init"):
        if own[name] == "":
            raise JobError(f"{name.replace('_', ' ')}: the name is empty")
    for name in ("prompts", "images"):
        own[name] = texts(name, own[name])
    for name, parse in NUMBERS.items():
        value = own[name]
        if isinstance(value, bool):
            raise JobError(f"{name.replace('_', ' ')}: {value} is not a number")
        whole = isinstance(value, float) and value.is_integer() and abs(value) < LARGEST
        try:
            own[name] = None if value is None else parse(str(int(value) if whole else value))
        except argparse.ArgumentTypeError as error:
            raise JobError(f"{name.replace('_', ' ')}: {error}") from None
    own["model"] = own["model"] or script.defaults["model"]
    if own["model"] not in script.models():
        known = ", ".join(script.models())
        raise JobError(f"no model {own['model']!r} for {script.name}.py: there are {known}")
    card = store.cards()[own["model"]]
    settle_sampler(own, script, card)
    own |= {k: v for k, v in script.defaults.items() if own[k] is None}
    own |= {k: v for k, v in card.sampling.items() if own[k] is None and script.has(k)}
    own["size"] = settled_size(own["size"], card)
    settle_guidance(own, script, card)
    if script is CFG_MODIFY_IMAGE and own["init"] is None:
        raise JobError('no picture to modify: name one before the prompts, in a job line as "init"')
    if own["init"] is None:
        own["starting_timestep"] = None
    for name in ("starting_timestep", "max_timestep"):
        if own[name] == 0:
            raise JobError(f"{name.replace('_', ' ')}: at 0 there is nothing to draw; raise it")
    return own


def settle_guidance(own: dict[str, Any], script: Script, card: store.Card) -> None:
    """Checks prompts, their weights, the scale and the CLIP that they need."""
    weights = [
        parse_prompt(prompt, script.prompt_weight)[1] for prompt in own["prompts"] + own["images"]
    ]
    if any(abs(weight) > LARGEST for weight in [*weights, sum(weights)]):
        raise JobError(f"the prompts' weights are too large; the largest sum is {LARGEST:g}")
    if script is not CLIP_SAMPLE:
        own["clip_guidance_scale"], own["clip"] = 0.0, card.clip
        return
    if own["clip"] not in (None, card.clip or own["clip"]):
        raise JobError(f"clip: {own['model']} takes the embeddings of {card.clip} and of no other")
    own["clip"] = own["clip"] or card.clip or GUIDE
    known = [name for name, other in store.cards().items() if other.kind == "clip"]
    if own["clip"] not in known:
        raise JobError(f"no CLIP {own['clip']!r}: there are {', '.join(known)}")
    if not weights:
        if card.clip and not card.unprompted:
            raise JobError("no prompt: give at least one text, or an image with --images")
        own["clip_guidance_scale"] = 0.0  # to where?
    elif not card.clip and not own["clip_guidance_scale"]:
        raise JobError(
            f"clip guidance scale: {own['model']} hears of prompts by CLIP's guidance alone; "
            "give a scale, or no prompt"
        )
    elif abs(sum(weights)) < 1e-3:
        raise JobError("the prompts' weights sum to 0; change one of them")


def settle_sampler(own: dict[str, Any], script: Script, card: store.Card) -> None:
    """Checks the method and its eta; of DDPM and DDIM it is the one that eta says where neither is
    named.
    """
    method, eta = own["method"] or script.defaults.get("method"), own["eta"]
    if method is None:
        eta = card.sampling["eta"] if eta is None else eta
        own |= {"method": "ddpm" if eta == 1 else "ddim", "eta": eta}
        return
    if method not in script.methods():
        raise JobError(f"no method {method!r}: there are {', '.join(script.methods())}")
    usual = float(method in STOCHASTIC)
    own |= {"method": method, "eta": usual if eta is None else eta}
    if own["eta"] == usual or method in TAKES_ETA:
        return
    if method == "ddpm":
        raise JobError("--eta: the method ddpm has eta 1; for another eta say --method ddim")
    raise JobError(f"--eta: the method {method} draws no noise; leave --eta out")


def settled_size(size: object, card: store.Card) -> tuple[int, int]:
    """Width and height, by default those that the model was trained with."""
    if size is None:
        return card.side, card.side
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        raise JobError(f"size: {size!r} is not a width and a height")
    sides = []
    for side in size:
        try:
            sides.append(SIDE(str(side)))
        except argparse.ArgumentTypeError as error:
            raise JobError(f"size: {error}") from None
        if over := sides[-1] % card.multiple:
            below = sides[-1] - over
            near = " or ".join(str(n) for n in (below, below + card.multiple) if n)
            raise JobError(
                f"size: {sides[-1]} is no multiple of {card.multiple}, as {card.name} needs; "
                f"take {near}"
            )
    return sides[0], sides[1]


def texts(name: str, value: object) -> tuple[str, ...]:
    """One prompt or several as a tuple; of images, paths are taken too."""
    found = (value,) if isinstance(value, (str, os.PathLike)) else value
    if name == "images" and isinstance(found, (list, tuple)):
        found = [os.fspath(one) if isinstance(one, os.PathLike) else one for one in found]
    if not isinstance(found, (list, tuple)) or not all(isinstance(text, str) for text in found):
        raise JobError(f"{name}: {scrubbed(repr(value))} is neither a text nor a list of texts")
    for text in found:
        if not parse_prompt(text)[0].strip():
            raise JobError(f"{name}: {text!r} {NOTHING[name]}, or leave it out")
    return tuple(found)
