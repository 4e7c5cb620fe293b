"""The options of the scripts, by group, and what they ask for. Importing this imports no torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from checkpoints import store
from checkpoints.console import Parser, shown
from diffusion.methods import METHODS

from .job import NUMBERS, Job, JobError, merged, models
from .jobfile import STDIN, open_jobs, order_of, read_orders
from .naming import FORMATS, PATTERN, check_file
from .ranks import this_rank
from .request import How, Keep, Order, Request
from .shell import MANY, UserError, whole_number

GRID = "grid.png"


def of_card(name: str) -> str:
    """The defaults that the models' cards have for an option, for its help."""
    cards = store.cards()
    values = (f"{cards[model].sampling[name]:g} for {model}" for model in models())
    return f"(default: {', '.join(values)})"


def add_job(parser: Parser) -> None:
    """What decides a picture. What isn't given is left to a job's own defaults."""
    group = parser.add_argument_group("the picture", argument_default=argparse.SUPPRESS)
    group.add_argument("prompts", nargs="*", help="the text prompts")
    group.add_argument(
        "--images",
        nargs="*",
        metavar="IMAGE",
        help="the image prompts: files, or HTTP or HTTPS addresses",
    )
    group.add_argument("--model", choices=models(), help="(default: cc12m_1)")
    group.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="the model's file (default: the published one, in checkpoints/)",
    )
    group.add_argument(
        "--clip-checkpoint", metavar="FILE", help="CLIP's file (default: the model's own CLIP)"
    )
    group.add_argument(
        "--method",
        choices=METHODS,
        help="the sampler (default: DDIM to DDPM, as --eta says)",
    )
    group.add_argument(
        "--steps", type=NUMBERS["steps"], help=f"the number of steps {of_card('steps')}"
    )
    group.add_argument(
        "--eta",
        type=NUMBERS["eta"],
        help=f"the share of fresh noise in a step, 0 (DDIM) to 1 (DDPM) {of_card('eta')}",
    )
    group.add_argument(
        "--seed",
        type=NUMBERS["seed"],
        help="the first image's seed; image i has the seed beyond it by i (default: 0)",
    )


def add_guidance(parser: Parser) -> None:
    """CLIP's guidance."""
    group = parser.add_argument_group("guidance", argument_default=argparse.SUPPRESS)
    group.add_argument(
        "--clip-guidance-scale",
        "-cs",
        type=NUMBERS["clip_guidance_scale"],
        help=f"how strongly CLIP guides; 0: not at all {of_card('clip_guidance_scale')}",
    )


def add_run(parser: Parser) -> None:
    """How many pictures, of which jobs, and what becomes of them."""
    group = parser.add_argument_group("the run")
    group.add_argument(
        "-n",
        type=whole_number(1, MANY),
        default=argparse.SUPPRESS,
        help="the number of images (default: 1)",
    )
    group.add_argument(
        "--output",
        default=argparse.SUPPRESS,
        metavar="PATTERN",
        help="where the images go; {i} is an image's number, {seed} its seed; the suffix says the "
        f"format: {', '.join(FORMATS)} (default: {PATTERN})",
    )
    group.add_argument(
        "--jobs",
        metavar="FILE",
        help="draw the jobs of a file, one JSON object a line, keys named as the long options, or "
        f"one prompt a line; {STDIN} is stdin; what a line leaves out, the other options give",
    )
    group.add_argument(
        "--again",
        nargs="+",
        default=[],
        metavar="IMAGE",
        help="draw as these images were drawn, but for the other options given",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="leave out the images that are there, whole, and made with the same settings",
    )
    group.add_argument(
        "--no-metadata",
        action="store_true",
        help="leave out of the images how they were made",
    )
    group.add_argument(
        "--preview",
        nargs="?",
        type=whole_number(1, MANY),
        const=0,
        metavar="EVERY",
        help="show each image while it is drawn, in a file beside it that ends in .preview.png, "
        "anew every so many steps (default: about once a second)",
    )
    group.add_argument(
        "--grid",
        nargs="?",
        const=GRID,
        metavar="FILE",
        help=f"make a contact sheet of all images in the end (default: {GRID})",
    )


def add_how(parser: Parser) -> None:
    """How and where to draw, which changes no picture."""
    group = parser.add_argument_group("how to draw")
    group.add_argument(
        "--batch-size",
        "-bs",
        type=whole_number(1, MANY),
        default=1,
        help="images at a time (default: 1)",
    )
    group.add_argument(
        "--checkpointing",
        action="store_true",
        help="guide in less memory and more time: compute again instead of keeping",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the model first, which takes a minute: for many images on CUDA",
    )
    group.add_argument("--device", help="the device (default: CUDA, else MPS, else the CPU)")


def read_request(parser: Parser, argv: Sequence[str] | None) -> Request:
    """What a command line asks for.

    Raises:
        UserError: it is mistaken. What the parser itself finds ends the program.
    """
    options = vars(parser.parse_args(argv))
    how = How(**{field.name: options.pop(field.name) for field in fields(How)})
    jobs, again, grid = (options.pop(name) for name in ("jobs", "again", "grid"))
    keep = Keep(
        resume=options.pop("resume"),
        metadata=not options.pop("no_metadata"),
        preview=options.pop("preview"),
        grid=None if grid is None else check_file("--grid", grid),
    )
    if keep.resume and not keep.metadata:
        raise UserError("--resume needs what --no-metadata leaves out: how the images were made")
    if jobs is not None and again:
        raise UserError("--jobs and --again: take one of the two")
    if jobs is not None:
        file = open_jobs(jobs, alone=this_rank().of == 1)
        return Request(read_orders(file, jobs, options), how, keep, lines=True)
    if again:
        orders = [order_again(path, options) for path in again]
        return Request(orders, how, keep, sources=tuple(map(Path, again)))
    return Request([order_of(options)], how, keep)


def order_again(path: str, changes: dict[str, Any]) -> Order:
    """The order of a picture that was drawn before, with changes.

    Raises:
        UserError: it doesn't say how it was drawn, or there is no such job.
    """
    from . import metadata  # imports Pillow
    from .record import job_of

    def unsaid() -> UserError:
        remedy = "name an image that this program has written with its metadata"
        return UserError(f"--again: {shown(path)} does not say how it was made; {remedy}")

    try:
        record = metadata.read(Path(path))
    except OSError as error:
        raise UserError(f"--again: {shown(path)}: {error.strerror or error}") from None
    if record is None:
        raise unsaid()
    try:
        options = {field.name: getattr(job_of(record), field.name) for field in fields(Job)}
    except JobError as error:
        raise UserError(f"--again: {shown(path)}: {error}") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        raise unsaid() from None
    return order_of(merged(options, changes))
