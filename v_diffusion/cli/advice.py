"""What to do about words on a command line that are no options of the script."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence

from ..job.script import SCRIPTS, Script
from ..shell.console import Parser
from .arguments import parser_of


def others_with(option: str, script: Script) -> list[str]:
    """The files of the other scripts that have an option, written as it is on the command line."""
    parsers = {one.name: parser_of(one, None) for one in SCRIPTS.values() if one is not script}
    return [
        f"{name}.py"
        for name, parser in parsers.items()
        if any(option in action.option_strings for action in parser._actions)
    ]


def remedy(unknown: Sequence[str], script: Script) -> str:
    """What would help where these words were left over.

    Args:
        unknown: they, in order; at least one.
        script: the one that they were given to.
    """
    dashed = [word for word in unknown if word.startswith("-")]
    if not dashed:
        return "name all prompts in one place, each in quotes"
    option = dashed[0].partition("=")[0]
    if others := others_with(option, script):
        return f"{option} is an option of {' and '.join(others)}"
    return "before a prompt that begins with a dash put --"


def parse(parser: Parser, argv: Sequence[str] | None, script: Script) -> argparse.Namespace:
    """The options of a command line; one that is mistaken ends the program."""
    # One of another script's can be the beginning of one of this one's, which argparse would take.
    for word in itertools.takewhile("--".__ne__, sys.argv[1:] if argv is None else argv):
        option = word.partition("=")[0]
        begins = option.startswith("--") and option not in parser._option_string_actions
        if begins and others_with(option, script):
            parser.error(f"unrecognized arguments: {option}; {remedy([option], script)}")
    found, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}; {remedy(unknown, script)}")
    return found
