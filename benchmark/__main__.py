"""Measures speed and memory beside the plain way of doing the same work, on the CPU.

Ratios are how many times faster ours is: the median over the rounds, in which all take turns, and
in brackets the least and the most. The full form takes half an hour, 20 GB of memory and 3 GB of
disk, and wants a machine that does nothing else.
"""

from v_diffusion.shell.console import Parser, leave, open_streams, require

if __name__ == "__main__":
    require("python -m benchmark", "torch", "torchvision", "PIL")

import argparse
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from . import STATE, company, shown, speed, weights

PACKAGES = ("torch", "torchvision")
SIZES = {"cc12m_1": [1, 2, 4, 8], "emoji_64": [1, 2, 4, 8, 16, 32, 64]}
PARTS = ("start", "step", "batches", "memory", "company")


def machine() -> speed.Numbers:
    """What the figures depend on."""
    from v_diffusion.__main__ import processor
    from v_diffusion.compute import kernels

    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}",
        "kernels": kernels.obstacle() or "run",
        "versions": {"python": platform.python_version()} | {x: version(x) for x in PACKAGES},
    }


def write(results: speed.Numbers, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n")
    partial.replace(path)


def measure(args: argparse.Namespace) -> speed.Numbers:
    """Everything asked for; what is done so far is in the file at every moment."""
    large = weights.emoji_64() if args.short else weights.cc12m_1(args.state)
    rounds = 1 if args.short else args.rounds
    results: speed.Numbers = {"machine": machine()}
    if "start" in args.parts:
        results["start"] = speed.starts(large, rounds)
        write(results, args.json)
    if "step" in args.parts:
        results["step"] = speed.steps(large, rounds, args.compiled, args.size)
        write(results, args.json)
    if "batches" in args.parts:
        results["batches"] = []
        for files in [weights.emoji_64()] if args.short else [weights.emoji_64(), large]:
            sizes = [1, 2] if args.short else SIZES[files.name]
            room = 0.7 * results["machine"]["memory"]
            # A large model's batches take minutes, and no ratio depends on them.
            few = min(rounds, 2) if files.name == "cc12m_1" else rounds
            results["batches"].append(speed.batches(files, sizes, few, room))
            write(results, args.json)
    if "memory" in args.parts:
        results["memory"] = []
        for files in [weights.emoji_64()] if args.short else [weights.emoji_64(), large]:
            results["memory"].append(speed.memory(files))
            write(results, args.json)
    if "company" in args.parts:
        results["company"] = []
        for files in [weights.emoji_64()] if args.short else [weights.emoji_64(), large]:
            ways = ["briefly"] if args.short else company.WAITING
            results["company"].append(company.measure(files, rounds, ways))
            write(results, args.json)
    return results


def main() -> None:
    open_streams()
    p = Parser(
        prog="python -m benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (all)")
    p.add_argument("--json", type=Path, default=STATE / "speed.json", metavar="FILE")
    p.add_argument("--rounds", type=int, default=3, help="of everything, in turn (default: 3)")
    p.add_argument("--short", action="store_true", help="one round, on emoji_64: does it run?")
    p.add_argument("--compiled", action="store_true", help="beside torch.compile, for 6 GB more")
    p.add_argument("--size", type=int, nargs=2, metavar=("W", "H"), help="of a step's picture")
    p.add_argument("--show", type=Path, metavar="FILE", help="show what a file has, and no more")
    p.add_argument("--state", type=Path, default=STATE, help="where the stand-in weights lie")
    args = p.parse_args()
    if unknown := [part for part in args.parts if part not in PARTS]:
        p.error(f"no part {unknown[0]!r}, only {', '.join(PARTS)}")
    args.parts = args.parts or PARTS
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler is talkative
    if args.show:
        try:
            lines = list(shown.everything(json.loads(args.show.read_text())))
        except OSError as error:
            p.error(f"--show: {args.show}: {error.strerror or error}")
        except (ValueError, LookupError, TypeError, AttributeError):
            p.error(f"--show: {args.show} has no figures of a benchmark")
    else:
        lines = list(shown.everything(measure(args)))
    print("\n".join(lines))
    if not args.show:
        print(f"written: {args.json}", file=sys.stderr)


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["cuda"]:
            from .cuda import program

            program.main(sys.argv[2:])
        if sys.argv[1:2] == ["precision"]:
            from . import precision

            precision.main(sys.argv[2:])
            sys.exit()
        main()
    except BrokenPipeError:  # who reads has read enough
        leave(sys.stdout)
        sys.exit(1)
