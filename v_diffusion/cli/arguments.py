"""From the table of options to a parser, and to the page of documentation."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from typing import Any

from ..job.options import TABLE, Option, not_available, options_of
from ..job.script import SCRIPTS, Script
from ..shell.console import Parser, add_version


def arguments_of(row: Option, script: Script) -> dict[str, Any]:
    """Return `add_argument`'s arguments for a row. Options that aren't given are left out of the
    result, so that they can be told from those that are.
    """
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
    """Return the parser of a script."""
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


def options_page() -> str:
    """Return docs/options.md."""
    lines = [
        "# Options",
        "",
        "All options of the scripts. This page is made from the table in",
        "`v_diffusion/job/options.py` by `make docs`. The options of the first two sections are",
        "also keys of a job file's lines and fields of a `Job`.",
    ]
    for name, rows in itertools.groupby(TABLE, key=lambda row: row.group):
        lines += ["", f"## {name.capitalize()}", ""]
        lines += ["| option | meaning | default | scripts |", "|---|---|---|---|"]
        for row in rows:
            flags = ", ".join(f"`{flag}`" for flag in row.flags) or f"`{row.name}`"
            defaults: dict[str, list[str]] = {}
            for script in row.scripts:
                defaults.setdefault(row.default_in(script) or "", []).append(script.name)
            several = len(defaults) > 1
            default = "; ".join(
                f"{value} ({', '.join(where)})" if several else value
                for value, where in defaults.items()
            )
            everywhere = len(row.scripts) == len(SCRIPTS)
            where = "all" if everywhere else ", ".join(one.name for one in row.scripts)
            lines.append(f"| {flags} | {row.help} | {default} | {where} |")
    return "\n".join(lines) + "\n"
