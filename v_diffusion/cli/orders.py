"""From options by name to orders."""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..job.hints import hints
from ..job.job import Job, JobError, checked, script_named, with_changes
from ..job.options import TABLE, job_options, line_keys
from ..job.script import CLIP_SAMPLE
from ..job.values import PROMPTS_FIRST, RANDOM
from ..run.ranks import this_rank
from ..run.request import Order
from ..shell.addresses import without_secrets
from ..shell.console import log, printable
from ..shell.errors import UserError
from ..shell.paths import expand_user
from ..weights import store

DRAWN_SEEDS = 2**32  # random seeds are below, so that they can be read


def order_of(options: Mapping[str, Any], line: str | None = None) -> Order:
    """Return the order of options by name, which come from a line of a job file if one is named."""
    given = {name: value for name, value in options.items() if value is not None}
    script = script_named(given.get("script", CLIP_SAMPLE.name))
    rows = {row.name: row for row in TABLE}
    n = checked(rows["n"], given.pop("n", 1), script)
    output = checked(rows["output"], given.pop("output", script.defaults["output"]), script)
    film = given.pop("film", False)
    film = None if film is False else checked(rows["film"], film, script)
    for name in given:
        if name not in Job.__dataclass_fields__:
            text = f"{name!r} is not an option of a job; use {', '.join(line_keys(script))}"
            raise UserError(text.replace("_", "-"))
    drawn = str(given.get("seed")) in (RANDOM, "-1")
    if drawn:
        if this_rank().of > 1:
            raise UserError("--seed: several processes would draw different seeds; give a number")
        given["seed"] = secrets.randbelow(DRAWN_SEEDS)
    job = Job(**given)
    order = Order(job, n, output, line, tuple(hints(job, options)), film)
    if drawn:
        log.warning(f"{line}: seed: {job.seed}" if line else f"seed: {job.seed}")
    return order


def order_again(path: str, changes: Mapping[str, Any]) -> Order:
    """Return the order of a picture drawn before, with changes, and tell which files it names."""
    from ..images import metadata  # imports Pillow
    from ..images.record import job_of

    name = f"--again: {printable(path)}"
    try:
        found = metadata.read(expand_user(path)) or {}
        job = job_of(found)
    except OSError as error:
        is_prompt = isinstance(error, FileNotFoundError) and not expand_user(path).suffix
        hint = f"; {PROMPTS_FIRST}" if is_prompt else ""
        raise UserError(f"{name}: {error.strerror or error}{hint}") from None
    except JobError as error:
        raise UserError(f"{name}: {error}") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        text = "does not say how it was made; give an image with its metadata"
        raise UserError(f"{name} {text}") from None
    if job.script != changes["script"]:
        raise UserError(f"{name} was made by {job.script}.py; use that script")
    rows = job_options(script_named(job.script))
    # Whoever made the picture chose its files and addresses: nobody is to open them unawares.
    named = [("images", image.text) for image in job.images]
    named += [(field, getattr(job, field)) for field in ("init", "mask", "checkpoint")]
    # Other CLIPs have files of their own.
    other_model = changes.get("model", job.model) != job.model
    clips = () if other_model or "clip" in changes else job.clip_checkpoint
    named += [("clip_checkpoint", file) for file in clips]
    for field, place in named:
        if place and field not in changes and this_rank().reports:
            log.warning(f"{name} names {rows[field].label} {printable(without_secrets(place))}")
    options = {field: getattr(job, field) for field in rows} | {"clip_checkpoint": clips}
    if other_model:  # which has a size and a CLIP of its own
        side = store.cards()[job.model].side
        options |= {"clip": None, "size": None if job.size == (side, side) else job.size}
    order = order_of(with_changes(options, changes))
    return replace(order, precision=found.get("precision"))
