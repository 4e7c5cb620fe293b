"""The job: everything that decides a picture, and nothing else."""

from __future__ import annotations

import argparse
import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from diffusion.methods import STOCHASTIC, TAKES_ETA

from ..shell.addresses import scrubbed
from ..shell.errors import UserError
from ..weights.cards import Card, cards
from .options import DEFAULT_GUIDE, Option, job_options, not_available
from .prompt import Prompt, parse_prompt
from .script import CFG_MODIFY_IMAGE, CLIP_SAMPLE, SCRIPTS, Script
from .values import RANDOM, SIDE

DEFAULT: Any = None  # that of the script or of the model's card
LARGEST = 3.4e38  # a bound of what fp32 can hold


class JobError(UserError, ValueError):
    """The job is impossible. The text is the whole message, one line."""


@dataclass(frozen=True)
class Job:
    """Everything that decides a picture. Importing it imports no torch.

    The fields are the options of the first two sections of docs/options.md, with the ranges and
    defaults that they have there; a job has the fields that its script has.

    Args:
        prompts, images: one or several texts, or paths and addresses, each with its weight after a
            colon unless that is the script's default. They are kept as tuples of `Prompt`.
        size: width and height in pixels.
        script: the name of one of `script.SCRIPTS`.

    Raises:
        JobError: the job is impossible.
    """

    prompts: Sequence[Any] = ()
    images: Sequence[Any] = ()
    model: str = DEFAULT
    checkpoint: str | None = None
    clip_checkpoint: str | None = None
    clip: str = DEFAULT
    method: str = DEFAULT
    steps: int = DEFAULT
    eta: float = DEFAULT
    clip_guidance_scale: float = DEFAULT
    cutn: int = DEFAULT
    cut_pow: float = DEFAULT
    init: str | None = None
    starting_timestep: float = DEFAULT
    max_timestep: float = DEFAULT
    size: tuple[int, int] = DEFAULT
    seed: int = 0
    script: str = CLIP_SAMPLE.name

    def __post_init__(self) -> None:
        for name, value in validated(self).items():
            object.__setattr__(self, name, value)

    def with_seed(self, seed: int) -> Job:
        """Return this job with another seed, 0 to 2^64 - 1, which isn't checked."""
        other = copy.copy(self)
        object.__setattr__(other, "seed", seed)
        return other

    @property
    def asks_clip(self) -> bool:
        """Tell if CLIP is needed at all."""
        return bool(self.prompts or self.images)

    @property
    def batch_key(self) -> tuple[object, ...]:
        """Return what jobs must have in common to be drawn in one batch."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for own in ("prompts", "images", "init", "seed"):
            del values[own]
        values["clip_guidance_scale"] = self.clip_guidance_scale != 0
        # Without CLIP's guidance each prompt is a row of its own in the network.
        rows = len(self.prompts) + len(self.images) if self.script != CLIP_SAMPLE.name else 0
        return *values.values(), self.init is not None, self.asks_clip, rows


def with_changes(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by name with changes.

    Method and eta belong together: a change of one resets the other, but for an eta of a method
    that has a choice.
    """
    kept = dict(options)
    if "method" in changes:
        kept.pop("eta", None)
    elif "eta" in changes and kept.get("method") in ("ddpm", "ddim"):
        kept.pop("method")
    return kept | dict(changes)


def script_named(name: object) -> Script:
    """Return a script. Raises JobError if there is none of this name."""
    if name not in SCRIPTS:
        raise JobError(f"script: {name!r} is not a script; use one of {', '.join(SCRIPTS)}")
    return SCRIPTS[str(name)]


def validated(job: Job) -> dict[str, Any]:
    """Return a job's fields, checked, with the defaults of its script and of its model's card.

    Raises:
        JobError: the job is impossible.
    """
    script = script_named(job.script)
    rows = job_options(script)
    given = {field.name: getattr(job, field.name) for field in fields(job)}
    del given["script"]
    if given["seed"] is None or "seed" not in rows:
        given["seed"] = 0
    for name, value in given.items():
        if value is not None and name not in rows and name != "seed":
            raise JobError(not_available(name, script))
    texts = {name: prompts_of(name, given[name], script) for name in ("prompts", "images")}
    simple = [row for name, row in rows.items() if name not in (*texts, "size", "clip")]
    values = {
        **given,
        **texts,
        **{row.name: checked(row, given[row.name], script) for row in simple},
    }
    values["model"] = values["model"] or script.defaults["model"]
    card = cards()[values["model"]]
    values["size"] = size_of(given["size"], card)
    values["method"], values["eta"] = sampler_of(values["method"], values["eta"], script, card)
    for name, row in rows.items():
        if values[name] is None:
            default = script.defaults.get(name, row.default)
            known = default if isinstance(default, (int, float)) else None
            values[name] = card.sampling.get(name, known) if known is None else known
    values["clip"] = clip_of(given["clip"], card)
    values["clip_guidance_scale"] = guidance_of(values, script, card)
    if script is CFG_MODIFY_IMAGE and values["init"] is None:
        raise JobError(
            'no picture to modify: name it before the prompts, or as "init" in a job line'
        )
    if values["init"] is None:
        values["starting_timestep"] = None
    for name in ("starting_timestep", "max_timestep"):
        if values[name] == 0:
            raise JobError(f"{rows[name].label}: nothing is left to draw at 0; raise it")
    return values


def checked(row: Option, value: Any, script: Script) -> Any:
    """Return the value of an option, None if it isn't given. Raises JobError if it is wrong."""
    if value is None:
        return None
    try:
        found = value if row.type is None else row.type(value)
    except argparse.ArgumentTypeError as error:
        raise JobError(f"{row.label}: {error}") from None
    if found == RANDOM:
        raise JobError(f"{row.label}: a job needs a number; only a command line draws seeds")
    if row.choices is not None and found not in (known := row.choices(script)):
        text = f"{found!r} is not available in {script.name}.py; use one of {', '.join(known)}"
        raise JobError(f"{row.label}: {text}")
    return found


def prompts_of(name: str, value: object, script: Script) -> tuple[Prompt, ...]:
    """Return one prompt or several as a tuple; images may be paths, too."""
    single = isinstance(value, (str, os.PathLike, Prompt))
    found = (value,) if single else value
    if name == "images" and isinstance(found, (list, tuple)):
        found = [os.fspath(one) if isinstance(one, os.PathLike) else one for one in found]
    if not isinstance(found, (list, tuple)) or not all(
        isinstance(one, (str, Prompt)) for one in found
    ):
        raise JobError(f"{name}: {scrubbed(repr(value))} is neither a text nor a list of texts")
    parsed = tuple(
        one if isinstance(one, Prompt) else parse_prompt(one, script.prompt_weight) for one in found
    )
    for given, prompt in zip(found, parsed):
        if not prompt.text.strip():
            missing = "has no words" if name == "prompts" else "names no picture"
            raise JobError(f"{name}: {given!r} {missing}; complete it or leave it out")
    return parsed


def sampler_of(
    method: str | None, eta: float | None, script: Script, card: Card
) -> tuple[str, float]:
    """Return the method and its eta. Where neither script nor job names a method it is DDPM if eta
    is 1, else DDIM.
    """
    method = method or script.defaults.get("method")
    if method is None:
        eta = card.sampling["eta"] if eta is None else eta
        return ("ddpm" if eta == 1 else "ddim"), eta
    usual = float(method in STOCHASTIC)
    if eta in (None, usual):
        return method, usual
    if method not in TAKES_ETA:
        remedy = "use --method ddim" if method == "ddpm" else "leave --eta out"
        raise JobError(f"--eta: the method {method} always has eta {usual:g}; {remedy}")
    return method, eta


def size_of(size: object, card: Card) -> tuple[int, int]:
    """Return width and height, by default those that the model was trained with."""
    if size is None:
        return card.side, card.side
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        raise JobError(f"--size: {size!r} is not a width and a height")
    try:
        width, height = (SIDE(side) for side in size)
    except argparse.ArgumentTypeError as error:
        raise JobError(f"--size: {error}") from None
    for side in (width, height):
        if over := side % card.multiple:
            near = [str(n) for n in (side - over, side - over + card.multiple) if n]
            raise JobError(
                f"--size: {side} is not a multiple of {card.multiple}, which {card.name} needs; "
                f"use {' or '.join(near)}"
            )
    return width, height


def clip_of(clip: str | None, card: Card) -> str:
    """Return the name of the CLIP that embeds the prompts."""
    if card.clip:
        if clip not in (None, card.clip):
            text = f"{card.name} takes embeddings of {card.clip} only; leave --clip out"
            raise JobError(f"--clip: {text}")
        return card.clip
    known = [name for name, other in cards().items() if other.kind == "clip"]
    if clip is not None and clip not in known:
        raise JobError(f"--clip: {clip!r} is not a CLIP; use one of {', '.join(known)}")
    return clip or DEFAULT_GUIDE


def guidance_of(values: Mapping[str, Any], script: Script, card: Card) -> float:
    """Return the scale of CLIP's guidance, after a look at the prompts' weights."""
    weights = [prompt.weight for prompt in (*values["prompts"], *values["images"])]
    if any(abs(weight) > LARGEST for weight in [*weights, sum(weights)]):
        raise JobError(f"the prompts' weights are too large; keep their sum below {LARGEST:g}")
    if script is not CLIP_SAMPLE:
        return 0.0
    scale: float = values["clip_guidance_scale"]
    if not weights:
        if card.clip and not card.unprompted:
            raise JobError("no prompt: give at least one text, or an image with --images")
        return 0.0
    if not card.clip and not scale:
        text = f"{card.name} follows prompts by guidance only; raise it, or give no prompt"
        raise JobError(f"--clip-guidance-scale: {text}")
    if abs(sum(weights)) < 1e-3:
        raise JobError("the prompts' weights sum to 0; change one of them")
    return scale
