#!/usr/bin/env python3
"""Many images in one: a contact sheet, row by row. The images have one mode and size."""

from __future__ import annotations

import os
import signal

if __name__ == "__main__":  # Ctrl-C is quiet from here on
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from v_diffusion.shell import program as shell

if __name__ == "__main__":
    shell.begin("make_grid.py", ["PIL"])

import argparse
import re
import sys
from pathlib import Path

from v_diffusion.images.names import all_identities, bad_pattern, check_file, identities
from v_diffusion.shell.addresses import without_secrets
from v_diffusion.shell.console import Parser, add_version, print_line, printable
from v_diffusion.shell.paths import expand_user
from v_diffusion.shell.program import MANY, whole_number


def file(text: str) -> Path:
    """An argparse type: the path of an image."""
    if re.match("(https?|file)://", text, re.IGNORECASE):
        why = "is an address; give the names of files"
        raise argparse.ArgumentTypeError(f"{printable(without_secrets(text))} {why}")
    return expand_user(text)


def build_parser() -> Parser:
    """The options."""
    parser = Parser(description=__doc__)
    parser.add_argument("images", type=file, nargs="+", metavar="IMAGE", help="the images' files")
    parser.add_argument(
        "--output", "-o", default="out.png", metavar="FILE", help="(default: out.png)"
    )
    parser.add_argument(
        "--nrow",
        type=whole_number(1, MANY),
        metavar="N",
        help="images a row (default: the square root of their number, rounded up)",
    )
    add_version(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the program and returns its exit status."""
    parser = build_parser()

    def make() -> None:
        args = parser.parse_args(argv)
        path = check_file("--output", args.output)
        if identities(path) & all_identities(args.images):
            raise bad_pattern(args.output, "it is one of the images; give another name")
        from v_diffusion.images import contact_sheet as grid
        from v_diffusion.images import output

        output.prepare([path])
        grid.write_sheet(args.images, path, args.nrow)
        print_line(path)

    return shell.exit_status(parser.prog, make)


if __name__ == "__main__":
    sys.exit(shell.end(main()))
