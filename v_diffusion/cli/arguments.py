"""From the table of options to a parser."""

import argparse
import itertools
from collections.abc import Sequence
from typing import Any

from ..job.options import TABLE, Option, not_available, options_of
from ..job.script import Script
from ..shell.console import Parser, add_version


def arguments_of(row: Option, script: Script) -> dict[str, Any]:
    """Return `add_argument`'s arguments for a row."""
    default = row.default_in(script)
    meaning = row.help if default is None else f"{row.help} (default: {default})"
    found: dict[str, Any] = {"help": meaning, **row.extra}
    if "action" not in found or found["action"] == "extend":
        found["type"] = row.type
    if row.choices is not None:
        found["choices"] = row.choices(script)
        if "metavar" in row.extra:
            found["help"] = f"{', '.join(found['choices'])}: {found['help']}"
    return found


def parser_of(script: Script, description: str | None) -> Parser:
    """Return the parser of a script. Its result leaves out the options that aren't given."""
    parser = Parser(
        description=description, epilog=script.epilog, argument_default=argparse.SUPPRESS
    )
    for name, rows in itertools.groupby(options_of(script).values(), key=lambda row: row.group):
        group = parser.add_argument_group(name)
        for row in rows:
            group.add_argument(*(row.flags or [row.name]), **arguments_of(row, script))
    add_version(group)
    return parser


def parse(parser: Parser, argv: Sequence[str] | None, script: Script) -> dict[str, Any]:
    """Return the options of a command line by name. A mistake ends the program."""
    found, unknown = parser.parse_known_args(argv)
    if unknown:
        dashed = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        elsewhere = [row.name for row in TABLE if dashed and dashed[0] in row.flags]
        if elsewhere:
            parser.error(not_available(elsewhere[0], script))
        remedy = "put -- before a prompt that begins with a dash"
        remedy = remedy if dashed else "give all prompts together, each in quotes"
        parser.error(f"unrecognized arguments: {' '.join(unknown)}; {remedy}")
    return vars(found)
