"""Measures fp32 and bf16 in turn on the CPU: forwards, guided steps and memory.

Each precision has a process of its own. The first line of each model is how many times faster bf16
is: the median over the rounds, and in brackets the least and the most.
"""

import argparse
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median

from v_diffusion.compute import bf16
from v_diffusion.shell.console import Parser

from . import STATE, Files, weights
from .worker import BF16, OURS, Worker

NAMES = {OURS: "fp32", BF16: "bf16"}


def compare(files: Files, rounds: int) -> None:
    """Print the figures of a model as they come."""
    with ExitStack() as stack:
        workers = {kind: stack.enter_context(closing(Worker(kind, files))) for kind in NAMES}
        for guided in (False, True):
            seconds: dict[str, list[float]] = {kind: [] for kind in NAMES}
            peaks = dict.fromkeys(NAMES, 0)
            for i in range(rounds + 1):  # the first packs the weights
                for kind, worker in workers.items():
                    found = worker("step", guided)
                    peaks[kind] = max(peaks[kind], found["peak"] or 0)
                    if i:
                        seconds[kind].append(found["seconds"])
            times = sorted(a / b for a, b in zip(seconds[OURS], seconds[BF16]))
            what = "guided step" if guided else "step"
            faster = f"{median(times):.2f} ({times[0]:.2f} to {times[-1]:.2f})"
            print(f"{files.name}, {what}: bf16 is {faster} times as fast", flush=True)
            for kind, name in NAMES.items():
                told = f"{median(seconds[kind]):.3f} s, {peaks[kind] / 1e9:.2f} GB"
                print(f"  {name}: {told} of its own at most", flush=True)


def main(argv: list[str]) -> None:
    p = Parser(
        prog="python -m benchmark precision",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--rounds", type=int, default=3, help="of everything, in turn (default: 3)")
    p.add_argument("--short", action="store_true", help="one round, on emoji_64: does it run?")
    p.add_argument("--state", type=Path, default=STATE, help="where the stand-in weights lie")
    args = p.parse_args(argv)
    found = [name for name in ("amx_tile", "avx512_bf16") if bf16.has(name)]
    print(f"the processor has {' and '.join(found) or 'no instructions for bf16'}", flush=True)
    compare(weights.emoji_64(), 1 if args.short else args.rounds)
    if not args.short:
        compare(weights.cc12m_1(args.state), args.rounds)
