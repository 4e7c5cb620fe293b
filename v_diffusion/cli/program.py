"""A sampling script, from its command line to its exit status."""

from __future__ import annotations

from collections.abc import Sequence

from ..job.script import Script
from ..shell.console import Parser, print_line, set_quiet
from ..shell.errors import UserError
from ..shell.program import exit_status
from ..weights import store
from .arguments import parse
from .orders import request_of


def show_prompts(model: str) -> None:
    """Print the names of the things that a model knows: a line each, the name, a tab, its emoji.

    Raises:
        UserError: there is no list of them.
    """
    from ..studio import vocabulary

    known = vocabulary.of(model)
    if known is None:
        others = [name for name, card in store.cards().items() if card.vocabulary]
        text = f"{model} has no list of what it knows; use --model {' or '.join(others)}"
        raise UserError(f"--list-prompts: {text}")
    for line in vocabulary.lines(known):
        print_line(line)


def run(parser: Parser, script: Script, argv: Sequence[str] | None) -> int:
    """Draw what a command line asks for and return the exit status.

    Args:
        argv: the arguments, by default the process's.
    """

    def draw() -> None:
        options = parse(parser, argv, script)
        set_quiet("quiet" in options)
        if "list_prompts" in options:
            show_prompts(options.get("model", script.defaults["model"]))
            return
        request = request_of(options, script)
        from ..run.run import run  # imports more than it takes to find a mistake

        run(request)

    return exit_status(parser.prog, draw)
