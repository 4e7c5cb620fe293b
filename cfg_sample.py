#!/usr/bin/env python3
"""Classifier-free guidance: pictures of words and pictures, without CLIP's eye on each step."""

from __future__ import annotations

from drawing import shell

if __name__ == "__main__":  # before anything that takes time
    shell.begin("cfg_sample.py")

import sys

from checkpoints.console import Parser
from drawing import arguments, program, prompts
from drawing.scripts import CFG_SAMPLE


def parse_prompt(
    prompt: str, default_weight: float = CFG_SAMPLE.prompt_weight
) -> tuple[str, float]:
    """A prompt's text, path or address and its weight, by default this script's."""
    return prompts.parse_prompt(prompt, default_weight)


def build_parser() -> Parser:
    """The options."""
    return arguments.parser_of(CFG_SAMPLE, __doc__)


def main(argv: list[str] | None = None) -> int:
    """Runs the program and returns its exit status."""
    return program.run(build_parser(), CFG_SAMPLE, argv)


def command() -> int:
    """The console command."""
    shell.begin("cfg-sample")
    return shell.end(main())


if __name__ == "__main__":
    sys.exit(shell.end(main()))
