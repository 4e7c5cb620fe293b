#!/usr/bin/env python3
"""CLIP conditioned, CLIP guided sampling of v-diffusion models: words and pictures to pictures."""

from __future__ import annotations

from drawing import shell

if __name__ == "__main__":  # before anything that takes time
    shell.begin("clip_sample.py")

import sys
from typing import Any

from checkpoints.console import Parser
from drawing import arguments, program
from drawing.prompts import parse_prompt
from drawing.scripts import CLIP_SAMPLE

__all__ = ["build_parser", "main", "parse_prompt"]
# What scripts import from here. Some of it imports torch, so it is looked up when it is asked for.
ELSEWHERE = {
    "MakeCutouts": "CLIP.guidance",
    "spherical_dist_loss": "CLIP.guidance",
    "devices": "drawing.devices",
    "pick_device": "drawing.devices",
    "resize_and_center_crop": "drawing.pictures",
    "load_model": "drawing.studio",
}


def __getattr__(name: str) -> Any:
    if name in ELSEWHERE:
        from importlib import import_module

        return getattr(import_module(ELSEWHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def build_parser() -> Parser:
    """The options."""
    return arguments.parser_of(CLIP_SAMPLE, __doc__)


def main(argv: list[str] | None = None) -> int:
    """Runs the program and returns its exit status."""
    return program.run(build_parser(), CLIP_SAMPLE, argv)


def command() -> int:
    """The console command."""
    shell.begin("clip-sample")
    return shell.end(main())


if __name__ == "__main__":
    sys.exit(shell.end(main()))
