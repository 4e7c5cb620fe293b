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
from .prompt import Prompt
from .script import CFG_MODIFY_IMAGE, CLIP_SAMPLE, SCRIPTS, Script
from .values import PROMPTS_FIRST, RANDOM

DEFAULT: Any = None  # that of the script or of the model's card
WHOLE = 0.0, 1.0  # all times
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
        clip: one or several names, each with its weight after a colon unless that is 1, kept alike.
        clip_checkpoint: one or several paths, for the CLIPs in their order.
        size: width and height in pixels.
        script: the name of one of `script.SCRIPTS`.

    Raises:
        JobError: the job is impossible.
    """

    prompts: Sequence[Any] = ()
    images: Sequence[Any] = ()
    model: str = DEFAULT
    checkpoint: str | None = None
    clip_checkpoint: Sequence[str] = ()
    clip: Sequence[Any] = DEFAULT
    method: str = DEFAULT
    steps: int = DEFAULT
    eta: float = DEFAULT
    clip_guidance_scale: float = DEFAULT
    cutn: int = DEFAULT
    cut_pow: float = DEFAULT
    cut_batches: int = DEFAULT
    init: str | None = None
    starting_timestep: float = DEFAULT
    mask: str | None = None
    max_timestep: float = DEFAULT
    size: tuple[int, int] = DEFAULT
    seed: int = DEFAULT
    guide_between: tuple[float, float] | None = None
    threshold: float | None = None
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
    def own_clip(self) -> str:
        """The CLIP whose embedding the model takes. If it takes none, the first one that guides."""
        return cards()[self.model].clip or self.clip[0].text

    @property
    def guides(self) -> tuple[Prompt, ...]:
        """The CLIPs that guide, with their weights; none where that is `own_clip` alone."""
        return () if self.clip == (Prompt(self.own_clip, 1.0),) else tuple(self.clip)

    @property
    def asks_clip(self) -> bool:
        """Tell if CLIP is needed at all."""
        return bool(self.prompts or self.images)

    @property
    def batch_key(self) -> tuple[object, ...]:
        """Return what jobs must have in common to be drawn in one batch."""
        own = ("prompts", "images", "init", "mask", "seed")
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        values["clip_guidance_scale"] = self.clip_guidance_scale != 0
        # Without CLIP's guidance each prompt is a row of its own in the network.
        rows = len(self.prompts) + len(self.images) if self.script != CLIP_SAMPLE.name else 0
        return *values.values(), self.init is not None, self.mask is not None, self.asks_clip, rows


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
    if str(name) not in SCRIPTS:
        raise JobError(f"script: {name!r} is not a script; use one of {', '.join(SCRIPTS)}")
    return SCRIPTS[str(name)]


def validated(job: Job) -> dict[str, Any]:
    """Return a job's fields, checked, with the defaults of its script and of its model's card."""
    script = script_named(job.script)
    rows = job_options(script)
    card = cards()[checked(rows["model"], job.model or script.defaults["model"], script)]
    values = {field.name: getattr(job, field.name) for field in fields(job)}
    values["model"] = card.name
    for name, value in values.items():
        given = value is not None and not (isinstance(value, tuple) and not value)
        if given and name not in (*rows, "script"):
            raise JobError(not_available(name, script))
        if name in ("prompts", "images"):
            values[name] = prompts_of(name, value, script)
        elif name in rows and value is not None:
            values[name] = checked(rows[name], value, script)
    values["size"] = size_of(values["size"], card)
    values["method"], values["eta"] = sampler_of(values["method"], values["eta"], script, card)
    for name, row in rows.items():
        if values[name] is None:
            default = script.defaults.get(name, row.default)
            in_table = isinstance(default, (int, float))
            values[name] = default if in_table else card.sampling.get(name)
    values["clip_guidance_scale"] = guidance_of(values, script, card)
    values["clip"], values["clip_checkpoint"] = clips_of(values, card)
    values["seed"] = values["seed"] or 0
    if values["seed"] == RANDOM:
        raise JobError("--seed: a job needs a number; only a command line draws seeds")
    if script is CFG_MODIFY_IMAGE and values["init"] is None:
        raise JobError('no picture to modify; name it before prompts, or as "init" in a job line')
    if values["init"] is None:
        values["starting_timestep"] = None
        if values["mask"] is not None:
            raise JobError("--mask: there is no picture to keep a part of; give one with --init")
    first, last = values["guide_between"] or WHOLE
    if first > last:
        raise JobError(f"--guide-between: {first:g} is above {last:g}; put the smaller time first")
    if (first, last) == WHOLE:
        values["guide_between"] = None
    return values


def checked(row: Option, value: Any, script: Script) -> Any:
    """Return the value of an option. Raises JobError if it is wrong."""
    single = isinstance(value, Prompt) or not isinstance(value, (list, tuple))
    several = row.extra.get("nargs") in (2, "+")
    if row.extra.get("nargs") == 2 and (single or len(value) != 2):
        raise JobError(f"{row.label}: {value!r} is not a list of two numbers")
    try:
        kind = row.type or str
        found = tuple(map(kind, [value] if single else value)) if several else kind(value)
    except argparse.ArgumentTypeError as error:
        raise JobError(f"{row.label}: {error}") from None
    if row.choices is not None and found not in (known := row.choices(script)):
        text = f"{found!r} is not available in {script.name}.py; use one of {', '.join(known)}"
        raise JobError(f"{row.label}: {text}")
    return found


def prompts_of(name: str, value: Any, script: Script) -> tuple[Prompt, ...]:
    """Return one prompt or several as a tuple; images may be paths, too."""
    single = isinstance(value, Prompt) or not isinstance(value, (list, tuple))
    several = [value] if single else value
    kinds = (str, Prompt, os.PathLike) if name == "images" else (str, Prompt)
    if not all(isinstance(one, kinds) for one in several):
        raise JobError(f"{name}: {scrubbed(repr(value))} is neither a text nor a list of texts")
    prompts = tuple(
        one if isinstance(one, Prompt) else script.parse_prompt(os.fspath(one)) for one in several
    )
    for given, prompt in zip(several, prompts):
        if not prompt.text.strip():
            raise JobError(f"{name}: {given!r} is empty; complete it or leave it out")
    return prompts


def sampler_of(
    method: str | None, eta: float | None, script: Script, card: Card
) -> tuple[str, float]:
    """Return the method and its eta; by default DDPM if eta is 1, else DDIM."""
    method = method or script.defaults.get("method")
    if method is None:
        eta = card.sampling["eta"] if eta is None else eta
        return ("ddpm" if eta == 1 else "ddim"), eta
    usual = float(method in STOCHASTIC)
    if eta in (None, usual):
        return method, usual
    if method not in TAKES_ETA:
        remedy = "leave --eta out, or use --method ddim"
        raise JobError(f"--eta: the method {method} always has eta {usual:g}; {remedy}")
    return method, eta


def size_of(size: tuple[int, int] | None, card: Card) -> tuple[int, int]:
    """Return width and height, by default those that the model was trained with."""
    for side in size or ():
        if over := side % card.multiple:
            near = [str(n) for n in (side - over, side - over + card.multiple) if n]
            raise JobError(
                f"--size: {side} is not a multiple of {card.multiple}, which {card.name} needs; "
                f"use {' or '.join(near)}"
            )
    return size or (card.side, card.side)


def clips_of(values: Mapping[str, Any], card: Card) -> tuple[tuple[Prompt, ...], tuple[str, ...]]:
    """Return the CLIPs that guide, with their weights, and their files."""
    own = Prompt(card.clip or DEFAULT_GUIDE, 1.0)
    clips, files = values["clip"] or (own,), values["clip_checkpoint"] or ()
    if len(files) > len(clips):
        several = f"{len(files)} files for {len(clips)} CLIP{'s' * (len(clips) > 1)}"
        text = f"{several}; name as many with --clip, and {PROMPTS_FIRST}"
        raise JobError(f"--clip-checkpoint: {text}")
    if abs(sum(weight for _, weight in clips)) < 1e-3:
        raise JobError("--clip: the weights sum to 0; change one of them")
    if values["clip_guidance_scale"]:
        return clips, files
    place = [*(name for name, _ in clips), own.text].index(own.text)
    return (own,), files[place : place + 1]


def guidance_of(values: Mapping[str, Any], script: Script, card: Card) -> float:
    """Return the scale of CLIP's guidance, after a look at the prompts' weights."""
    weights = [prompt.weight for prompt in (*values["prompts"], *values["images"])]
    if any(abs(weight) > LARGEST for weight in [*weights, sum(weights)]):
        raise JobError(f"the prompts' weights are too large; keep their sum below {LARGEST:g}")
    if script is not CLIP_SAMPLE:
        return 0.0
    if not weights:
        if card.clip and not card.unprompted:
            raise JobError("no prompt: give at least one text, or an image with --images")
        return 0.0
    if not card.clip and not values["clip_guidance_scale"]:
        text = f"{card.name} follows prompts by guidance only; raise it, or give no prompt"
        raise JobError(f"--clip-guidance-scale: {text}")
    if abs(sum(weights)) < 1e-3:
        raise JobError("the prompts' weights sum to 0; change one of them")
    return float(values["clip_guidance_scale"])
