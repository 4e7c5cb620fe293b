#!/usr/bin/env python3
"""Modify a picture by prompts: take it back to noise without words, then draw it with them."""

import sys

from v_diffusion.shell import program

if __name__ == "__main__":  # before imports that take time
    program.begin("cfg_modify_image.py")

from v_diffusion.cli import arguments
from v_diffusion.cli.program import run
from v_diffusion.job.script import CFG_MODIFY_IMAGE
from v_diffusion.shell.console import Parser

parse_prompt = CFG_MODIFY_IMAGE.parse_prompt  # for other scripts


def build_parser() -> Parser:
    """Return the parser of all options."""
    return arguments.parser_of(CFG_MODIFY_IMAGE, __doc__)


def main(argv: list[str] | None = None) -> int:
    """Run a command line, by default the process's, and return its exit status."""
    return run(build_parser(), CFG_MODIFY_IMAGE, argv)


if __name__ == "__main__":
    sys.exit(main())
