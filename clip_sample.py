#!/usr/bin/env python3
"""Draw pictures of text and image prompts with CLIP conditioned, CLIP guided v-diffusion models."""

from __future__ import annotations

import sys
from typing import Any

from v_diffusion.shell import program

if __name__ == "__main__":  # before imports that take time
    program.begin("clip_sample.py")

from v_diffusion.cli import arguments
from v_diffusion.cli.program import run
from v_diffusion.job import prompt as prompts
from v_diffusion.job.script import CLIP_SAMPLE
from v_diffusion.shell.console import Parser


def parse_prompt(prompt: str, default_weight: float = 1.0) -> tuple[str, float]:
    """Split a prompt into its text, path or address and its weight."""
    return prompts.parse_prompt(prompt, default_weight)


def build_parser() -> Parser:
    """Return the parser of all options."""
    return arguments.parser_of(CLIP_SAMPLE, __doc__)


def main(argv: list[str] | None = None) -> int:
    """Run a command line, by default the process's, and return its exit status."""
    return run(build_parser(), CLIP_SAMPLE, argv)


def command() -> int:
    """Run as the installed command `clip-sample`."""
    program.begin("clip-sample")
    return program.end(main())


def __getattr__(name: str) -> Any:
    """Return one of the names that other scripts import from here; some of them need torch."""
    if name in ("MakeCutouts", "spherical_dist_loss"):
        from CLIP import guidance

        return getattr(guidance, name)
    if name in ("devices", "pick_device"):
        from v_diffusion.studio import devices

        return getattr(devices, name)
    if name == "resize_and_center_crop":
        from v_diffusion.images.decode import resize_and_center_crop

        return resize_and_center_crop
    if name == "load_model":
        from v_diffusion.studio.models import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    sys.exit(program.end(main()))
