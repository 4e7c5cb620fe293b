"""A script from its command line to its exit status. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from ..images.names import check_file
from ..job import prompt as prompts
from ..job.job import Job, JobError, merged
from ..job.script import SCRIPTS, Script
from ..run.ranks import this_rank
from ..run.request import Execution, Order, OutputOptions, Request
from ..shell import program as shell
from ..shell.console import Parser, note, printable, set_quiet
from ..shell.paths import expand_user
from ..shell.program import UserError
from ..weights import store
from . import advice, arguments
from .jobfile import open_jobs, order_of, read_orders
from .talk import show_prompts


def read_request(parser: Parser, argv: Sequence[str] | None, script: Script) -> Request:
    """What a command line of a script asks for.

    Raises:
        UserError: it is mistaken. What the parser itself finds ends the program.
    """
    return request_of(vars(advice.parse(parser, argv, script)), script)


def request_of(options: dict[str, Any], script: Script) -> Request:
    """What the parsed options of a script ask for.

    Raises:
        UserError: they are mistaken.
    """
    set_quiet(options.pop("quiet"))
    options.pop("list_prompts")
    told = [field.name for field in fields(Execution) if field.name in options]
    how = Execution(**{name: options.pop(name) for name in told})
    jobs, again, grid = (options.pop(name) for name in ("jobs", "again", "grid"))
    keep = OutputOptions(
        resume=options.pop("resume"),
        clobber=not options.pop("no_clobber"),
        metadata=not options.pop("no_metadata"),
        preview=options.pop("preview"),
        grid=None if grid is None else check_file("--grid", grid),
    )
    if keep.resume and not keep.metadata:
        raise UserError("--resume needs what --no-metadata leaves out: how the images were made")
    if keep.resume and not keep.clobber:
        text = "--resume and --no-clobber: take one of the two; the former looks into the files"
        raise UserError(text)
    if jobs is not None and again:
        raise UserError("--jobs and --again: take one of the two")
    options["script"] = script.name
    if jobs is not None:
        file = open_jobs(jobs, alone=this_rank().of == 1)
        return Request(read_orders(file, jobs, options), how, keep, lines=True)
    orders = [order_again(path, options) for path in again] if again else [order_of(options)]
    guides = any(order.job.clip_guidance_scale for order in orders)
    if how.checkpointing and not guides and this_rank().reports:
        note("warning: --checkpointing changes nothing where CLIP does not guide")
    return Request(orders, how, keep, sources=tuple(map(expand_user, again)))


def order_again(path: str, changes: dict[str, Any]) -> Order:
    """The order of a picture that was drawn before, with changes.

    Raises:
        UserError: it doesn't say how it was drawn, or there is no such job.
    """
    from ..images import metadata  # imports Pillow
    from ..images.record import job_of

    def unsaid() -> UserError:
        remedy = "name an image that this program has written with its metadata"
        return UserError(f"--again: {printable(path)} does not say how it was made; {remedy}")

    try:
        record = metadata.read(expand_user(path))
    except OSError as error:
        raise UserError(f"--again: {printable(path)}: {error.strerror or error}") from None
    if record is None:
        raise unsaid()
    try:
        job = job_of(record)
        if job.script != changes["script"]:
            text = f"--again: {printable(path)} was made by {job.script}.py; give it to that"
            raise UserError(text)
        script = SCRIPTS[job.script]
        options = {f.name: getattr(job, f.name) for f in fields(Job) if script.has(f.name)}
        if "model" in changes:  # another model has a size and a CLIP of its own
            side = store.cards()[job.model].side
            options |= {"clip": None, "size": None if job.size == (side, side) else job.size}
    except JobError as error:
        raise UserError(f"--again: {printable(path)}: {error}") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        raise unsaid() from None
    return order_of(merged(options, changes))


def run(parser: Parser, script: Script, argv: Sequence[str] | None) -> int:
    """Draws what a command line asks for and returns the exit status."""

    def draw() -> None:
        options = vars(advice.parse(parser, argv, script))
        if options["list_prompts"]:
            show_prompts(options.get("model", script.defaults["model"]))
            return
        request = request_of(options, script)
        from ..run.run import run  # what it imports takes longer than to find a mistake

        run(request)

    return shell.exit_status(parser.prog, draw)


class Entry(NamedTuple):
    """What a script's file has, by these names."""

    parse_prompt: Callable[..., tuple[str, float]]  # with the script's own default weight
    build_parser: Callable[[], Parser]
    main: Callable[..., int]  # command line, by default the process's, to exit status
    command: Callable[[], int]  # the console command


def entry(script: Script, description: str | None) -> Entry:
    """The functions of a script's file."""

    def parse_prompt(
        prompt: str, default_weight: float = script.prompt_weight
    ) -> tuple[str, float]:
        return prompts.parse_prompt(prompt, default_weight)

    def build_parser() -> Parser:
        return arguments.parser_of(script, description)

    def main(argv: list[str] | None = None) -> int:
        return run(build_parser(), script, argv)

    def command() -> int:
        shell.begin(script.name.replace("_", "-"))
        return shell.end(main())

    return Entry(parse_prompt, build_parser, main, command)
