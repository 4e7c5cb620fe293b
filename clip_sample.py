#!/usr/bin/env python3
"""CLIP conditioned, CLIP guided sampling of v-diffusion models: words and pictures to pictures."""

from __future__ import annotations

import os
import signal

if __name__ == "__main__":  # Ctrl-C is quiet from here on
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from v_diffusion.shell import program as shell

if __name__ == "__main__":  # before anything that takes time
    shell.begin("clip_sample.py")

import sys
from typing import Any

from v_diffusion.cli import program
from v_diffusion.job.script import CLIP_SAMPLE

parse_prompt, build_parser, main, command = program.entry(CLIP_SAMPLE, __doc__)

# What scripts import from here. Some of it imports torch, so it is looked up when it is asked for.
ELSEWHERE = {
    "MakeCutouts": "CLIP.guidance",
    "spherical_dist_loss": "CLIP.guidance",
    "devices": "v_diffusion.studio.devices",
    "pick_device": "v_diffusion.studio.devices",
    "resize_and_center_crop": "v_diffusion.images.decode",
    "load_model": "v_diffusion.studio.models",
}


def __getattr__(name: str) -> Any:
    if name in ELSEWHERE:
        from importlib import import_module

        return getattr(import_module(ELSEWHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    sys.exit(shell.end(main()))
