#!/usr/bin/env python3
"""Draws a picture again with other words: back to the noise that it would come from without any."""

from __future__ import annotations

from drawing import shell

if __name__ == "__main__":  # before anything that takes time
    shell.begin("cfg_modify_image.py")

import sys

from checkpoints.console import Parser
from drawing import arguments, program, prompts
from drawing.scripts import CFG_MODIFY_IMAGE


def parse_prompt(
    prompt: str, default_weight: float = CFG_MODIFY_IMAGE.prompt_weight
) -> tuple[str, float]:
    """A prompt's text, path or address and its weight, by default this script's."""
    return prompts.parse_prompt(prompt, default_weight)


def build_parser() -> Parser:
    """The options."""
    return arguments.parser_of(CFG_MODIFY_IMAGE, __doc__)


def main(argv: list[str] | None = None) -> int:
    """Runs the program and returns its exit status."""
    return program.run(build_parser(), CFG_MODIFY_IMAGE, argv)


def command() -> int:
    """The console command."""
    shell.begin("cfg-modify-image")
    return shell.end(main())


if __name__ == "__main__":
    sys.exit(shell.end(main()))
