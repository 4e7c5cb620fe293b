"""Whole runs of the program alone, two at once, and beside a program that is always busy."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from v_diffusion.shell.program import ROUNDS, SPINS

from . import ROOT, Files

# How threads wait: as the program says, as GCC's OpenMP runtime does by itself, and not at all.
WAITING = {"briefly": str(ROUNDS), "as usual": "300000", "not at all": "0"}
ALONE, TWO, BUSY = "alone", "two at once", "beside a busy loop"
SITUATIONS = (ALONE, TWO, BUSY)


def command(files: Files, output: Path) -> list[str]:
    """A run of some seconds."""
    options = ["-n", "8", "--steps", "20"] if files.name == "emoji_64" else ["--steps", "2"]
    if files.name != "emoji_64":
        options += ["-cs", "0", "--no-metadata"]
    names = ["--model", files.name, "--checkpoint", str(files.model)]
    names += ["--clip-checkpoint", str(files.clip), "--device", "cpu"]
    return [str(ROOT / "clip_sample.py"), "a fox", *names, *options, "--output", str(output)]


@contextmanager
def busy() -> Iterator[None]:
    """Another program keeps one core busy."""
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        loop.kill()
        loop.wait()


def run(files: Files, waiting: str, many: int, folder: Path) -> float:
    """The seconds until so many runs, begun together, have ended."""
    environment = {**os.environ, SPINS: WAITING[waiting]}
    begun = time.monotonic()
    runs = [
        subprocess.Popen(
            [sys.executable, *command(files, folder / f"{k}_{{i}}.png")],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for k in range(many)
    ]
    if any([one.wait() for one in runs]):
        raise RuntimeError("a run of the program failed")
    return time.monotonic() - begun


def measure(files: Files, rounds: int, ways: Iterable[str] = WAITING) -> dict[str, Any]:
    """The seconds of every situation and way to wait, in turn."""
    found: dict[str, Any] = {"model": files.name}
    found["seconds"] = {way: {name: [] for name in SITUATIONS} for way in ways}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(rounds):
            tqdm.write(f"{files.name} in company, round {i + 1} of {rounds}", sys.stderr)
            for way, times in found["seconds"].items():
                times[ALONE].append(run(files, way, 1, folder))
                times[TWO].append(run(files, way, 2, folder))
                with busy():
                    times[BUSY].append(run(files, way, 1, folder))
    return found
