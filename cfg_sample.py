#!/usr/bin/env python3
"""Draw pictures of text and image prompts with classifier-free guidance."""

import sys

from v_diffusion.shell import program

if __name__ == "__main__":  # before imports that take time
    program.begin("cfg_sample.py")

from v_diffusion.cli import arguments
from v_diffusion.cli.program import run
from v_diffusion.job.script import CFG_SAMPLE
from v_diffusion.shell.console import Parser

parse_prompt = CFG_SAMPLE.parse_prompt  # for other scripts


def build_parser() -> Parser:
    """Return the parser of all options."""
    return arguments.parser_of(CFG_SAMPLE, __doc__)


def main(argv: list[str] | None = None) -> int:
    """Run a command line, by default the process's, and return its exit status."""
    return run(build_parser(), CFG_SAMPLE, argv)


if __name__ == "__main__":
    sys.exit(main())
