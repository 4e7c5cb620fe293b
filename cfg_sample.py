#!/usr/bin/env python3
"""Classifier-free guidance: pictures of words and pictures, without CLIP's eye on each step."""

from __future__ import annotations

import os
import signal

if __name__ == "__main__":  # Ctrl-C is quiet from here on
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from v_diffusion.shell import program as shell

if __name__ == "__main__":  # before anything that takes time
    shell.begin("cfg_sample.py")

import sys

from v_diffusion.cli import program
from v_diffusion.job.script import CFG_SAMPLE

parse_prompt, build_parser, main, command = program.entry(CFG_SAMPLE, __doc__)

if __name__ == "__main__":
    sys.exit(shell.end(main()))
