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

WEIGHTS = """A prompt's weight stands after a colon, 'a fox:2'; without one it is 3. The network is
asked once for each prompt and once without words, and the last answer's weight is 1 less the sum of
the others. So a weight of 1 is the model's own idea of a prompt; more is that driven further from
what it would draw without words, 0 is as if the prompt were not there, and a negative one leads
away from it. The weights of several prompts add up: two of 1.5 are as strong as one of 3."""


def parse_prompt(
    prompt: str, default_weight: float = CFG_MODIFY_IMAGE.prompt_weight
) -> tuple[str, float]:
    """A prompt's text, path or address and its weight, by default this script's."""
    return prompts.parse_prompt(prompt, default_weight)


def build_parser() -> Parser:
    """The options."""
    return arguments.add_all(Parser(description=__doc__, epilog=WEIGHTS), CFG_MODIFY_IMAGE)


def main(argv: list[str] | None = None) -> int:
    """Runs the program and returns its exit status."""
    return program.run(build_parser(), CFG_MODIFY_IMAGE, argv)


def command() -> int:
    """The console command."""
    shell.begin("cfg-modify-image")
    return shell.end(main())


if __name__ == "__main__":
    sys.exit(shell.end(main()))
