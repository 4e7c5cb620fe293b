#!/usr/bin/env python3
"""Draw pictures of text and image prompts with CLIP conditioned, CLIP guided v-diffusion models."""

import sys
from typing import Any

from v_diffusion.shell import program

if __name__ == "__main__":  # before imports that take time
    program.begin("clip_sample.py")

from v_diffusion.cli import arguments
from v_diffusion.cli.program import run
from v_diffusion.job.script import CLIP_SAMPLE
from v_diffusion.shell.console import Parser

parse_prompt = CLIP_SAMPLE.parse_prompt  # for other scripts


def build_parser() -> Parser:
    """Return the parser of all options."""
    return arguments.parser_of(CLIP_SAMPLE, __doc__)


def main(argv: list[str] | None = None) -> int:
    """Run a command line, by default the process's, and return its exit status."""
    return run(build_parser(), CLIP_SAMPLE, argv)


def __getattr__(name: str) -> Any:
    """Return one of the names that other scripts import from here, which need torch."""
    from CLIP import guidance
    from v_diffusion.images import decode
    from v_diffusion.studio import devices, models

    for room in (guidance, decode, devices, models):
        if hasattr(room, name):
            return getattr(room, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    sys.exit(main())
