"""A sampling script, from its command line to its exit status."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from ..images.names import check_file
from ..job.options import line_keys
from ..job.script import Script
from ..run.ranks import this_rank
from ..run.request import Execution, OutputOptions, Request
from ..shell import program
from ..shell.console import Parser, log, print_line
from ..shell.errors import UserError
from ..shell.paths import expand_user
from ..weights import store
from .arguments import parse
from .jobfile import open_jobs, read_orders
from .orders import order_again, order_of

EXCLUSIVE = (("resume", "no-metadata"), ("resume", "no-clobber"), ("jobs", "again"))


def show_prompts(model: str) -> None:
    """Print the names of the things that a model knows: a line each, the name, a tab, its emoji."""
    from ..studio import vocabulary

    known = vocabulary.of(model)
    if known is None:
        others = [name for name, card in store.cards().items() if card.vocabulary]
        text = f"{model} has no list of what it knows; use --model {' or '.join(others)}"
        raise UserError(f"--list-prompts: {text}")
    for name, emoji in known.names.items():
        print_line(f"{name}\t{emoji}")
    log.info(f"{model} {known.limits}")


def request_of(options: Mapping[str, Any], script: Script) -> Request:
    """Return the request of a command line's options."""
    for one, other in EXCLUSIVE:
        if one.replace("-", "_") in options and other.replace("-", "_") in options:
            raise UserError(f"--{one} and --{other} exclude each other; drop one of them")
    execution = Execution(
        **{f.name: options[f.name] for f in fields(Execution) if f.name in options}
    )
    again, grid = options.get("again", []), options.get("grid")
    output = OutputOptions(
        resume="resume" in options,
        clobber="no_clobber" not in options,
        metadata="no_metadata" not in options,
        preview=options.get("preview"),
        grid=None if grid is None else check_file("--grid", grid),
    )
    given = {key: options[key] for key in line_keys(script) if key in options}
    given["script"] = script.name
    if "jobs" in options:
        jobs = options["jobs"]
        return Request(read_orders(open_jobs(jobs), jobs, given), execution, output, lines=True)
    orders = [order_again(path, given) for path in again] if again else [order_of(given)]
    if "precision" not in options:
        drawn = {order.precision for order in orders}
        if len(drawn) > 1:
            text = "these images were drawn in different precisions; give a --precision for all"
            raise UserError(f"--again: {text}")
        execution = replace(execution, precision=drawn.pop())
    guides = any(order.job.clip_guidance_scale for order in orders)
    if execution.checkpointing and not guides and this_rank().reports:
        log.warning("warning: --checkpointing has no effect without CLIP's guidance")
    return Request(orders, execution, output, sources=tuple(map(expand_user, again)))


def run(parser: Parser, script: Script, argv: Sequence[str] | None) -> int:
    """Draw what a command line asks for, by default the process's, and return the exit status."""

    def draw() -> None:
        options = parse(parser, argv, script)
        log.setLevel("WARNING" if "quiet" in options else "INFO")
        if "list_prompts" in options:
            show_prompts(options.get("model", script.defaults["model"]))
            return
        request = request_of(options, script)
        from ..run.run import run  # imports more than it takes to find a mistake

        run(request)

    if argv is not None:
        return program.exit_status(parser.prog, draw)
    program.begin(parser.prog)
    return program.end(program.exit_status(parser.prog, draw))
