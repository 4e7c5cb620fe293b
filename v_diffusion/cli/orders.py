"""From options by name to orders and a request."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..images.names import check_file
from ..job.hints import hints
from ..job.job import Job, JobError, script_named, with_changes
from ..job.options import TABLE, job_options, not_available
from ..job.script import CLIP_SAMPLE, Script
from ..job.values import COUNT, RANDOM, seed
from ..run.ranks import this_rank
from ..run.request import Execution, Order, OutputOptions, Request
from ..shell.console import log, printable
from ..shell.errors import UserError
from ..shell.paths import expand_user
from ..weights import store

DRAWN_SEEDS = 2**32  # random seeds are below, so that they can be read


def draw_seed() -> int:
    """Return a seed from the system's own randomness.

    Raises:
        UserError: several processes share the pictures, and each would draw another.
    """
    if this_rank().of > 1:
        raise UserError("--seed: several processes would draw different seeds; give a number")
    return secrets.randbelow(DRAWN_SEEDS)


def unknown_key(key: str, script: Script) -> UserError:
    """Return the error for a key that a job file's line can't have."""
    if any(row.name == key and row.is_of_job for row in TABLE):
        return UserError(not_available(key, script))
    names = [*job_options(script), "n", "output", "script"]
    wrong, *known = (name.replace("_", "-") for name in (key, *names))
    near = get_close_matches(wrong, known, 1)
    advice = f"did you mean {near[0]!r}?" if near else f"use {', '.join(known)}"
    return UserError(f"{wrong!r} is not an option of a job; {advice}")


def order_of(options: Mapping[str, Any], line: str | None = None) -> Order:
    """Return the order of options by name: those of a job, `n`, `output` and the script's name.

    Args:
        line: the line of a job file that they come from.

    Raises:
        UserError: the job is impossible, or an option is unknown.
    """
    given = {name: value for name, value in options.items() if value is not None}
    script = script_named(given.get("script", CLIP_SAMPLE.name))
    n, output = given.pop("n", 1), given.pop("output", script.output)
    known = job_options(script)
    for name in given:
        if name not in known and name != "script":
            raise unknown_key(name, script)
    if not isinstance(output, str):
        raise UserError(f"output: {output!r} is not a text")
    try:
        n = COUNT(n)
        drawn = "seed" in given and seed(given["seed"]) == RANDOM
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{'--seed' if isinstance(n, int) else 'n'}: {error}") from None
    if drawn:
        given["seed"] = draw_seed()
    job = Job(**given)
    order = Order(job, n, output, line, tuple(hints(job, options)))
    if drawn:
        log.warning(f"{line}: seed: {job.seed}" if line else f"seed: {job.seed}")
    return order


def order_again(path: str, changes: Mapping[str, Any]) -> Order:
    """Return the order of a picture that was drawn before, with changes.

    Raises:
        UserError: it doesn't say how it was made, or the job is impossible.
    """
    from ..images import metadata  # imports Pillow
    from ..images.record import job_of

    name = f"--again: {printable(path)}"
    unknown = UserError(f"{name} does not say how it was made; give an image with its metadata")
    try:
        record = metadata.read(expand_user(path))
    except OSError as error:
        raise UserError(f"{name}: {error.strerror or error}") from None
    if record is None:
        raise unknown
    try:
        job = job_of(record)
    except JobError as error:
        raise UserError(f"{name}: {error}") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        raise unknown from None
    if job.script != changes["script"]:
        raise UserError(f"{name} was made by {job.script}.py; use that script")
    options = {name: getattr(job, name) for name in job_options(script_named(job.script))}
    if "model" in changes:  # another model has a size and a CLIP of its own
        side = store.cards()[job.model].side
        options |= {"clip": None, "size": None if job.size == (side, side) else job.size}
    return order_of(with_changes(options, changes))


def request_of(options: Mapping[str, Any], script: Script) -> Request:
    """Return the request of a command line's options.

    Raises:
        UserError: they are mistaken.
    """
    from .jobfile import open_jobs, read_orders

    execution = Execution(
        **{f.name: options[f.name] for f in fields(Execution) if f.name in options}
    )
    jobs, again, grid = options.get("jobs"), options.get("again", []), options.get("grid")
    output = OutputOptions(
        resume="resume" in options,
        clobber="no_clobber" not in options,
        metadata="no_metadata" not in options,
        preview=options.get("preview"),
        grid=None if grid is None else check_file("--grid", grid),
    )
    if output.resume and not output.metadata:
        raise UserError(
            "--resume needs the metadata that --no-metadata leaves out; drop one of them"
        )
    if output.resume and not output.clobber:
        raise UserError("--resume and --no-clobber exclude each other; drop one of them")
    if jobs is not None and again:
        raise UserError("--jobs and --again exclude each other; drop one of them")
    names = [*job_options(script), "n", "output"]
    given = {name: options[name] for name in names if name in options} | {"script": script.name}
    if jobs is not None:
        file = open_jobs(jobs, alone=this_rank().of == 1)
        return Request(read_orders(file, jobs, given), execution, output, lines=True)
    orders = [order_again(path, given) for path in again] if again else [order_of(given)]
    guides = any(order.job.clip_guidance_scale for order in orders)
    if execution.checkpointing and not guides and this_rank().reports:
        log.warning("warning: --checkpointing has no effect without CLIP's guidance")
    sources: tuple[Path, ...] = tuple(map(expand_user, again))
    return Request(orders, execution, output, sources=sources)
