"""Measures speed and memory beside the plain way of doing the same work, on the CPU.

Figures are medians over the rounds, in which all take turns, and in brackets the least and the
most. The full form takes half an hour, 20 GB of memory and 3 GB of disk, and wants a machine that
does nothing else.
"""

import argparse
import sys

from v_diffusion.shell.console import Parser, open_streams, require
from v_diffusion.shell.program import exit_status

PROGRAM = "python -m benchmark"
USUAL = ("start", "step", "batches", "memory", "company")


def main() -> int:
    if sys.argv[1:2] == ["cuda"]:
        from .cuda import program

        return program.main(sys.argv[2:])
    names = [*USUAL, "precision"]
    p = Parser(
        prog=PROGRAM,
        description=__doc__,
        epilog=f"{PROGRAM} cuda --help: of a GPU",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    usual = f"of {', '.join(names)} (all but precision)"
    p.add_argument("parts", nargs="*", metavar="PART", help=usual)
    p.add_argument("--rounds", type=int, default=3, help="of everything, in turn (default: 3)")
    p.add_argument("--short", action="store_true", help="one round, on emoji_64: does it run?")
    p.add_argument("--size", type=int, nargs=2, metavar=("W", "H"), help="of a step's picture")
    args = p.parse_args()
    if unknown := [part for part in args.parts if part not in names]:
        p.error(f"no part {unknown[0]!r}, only {', '.join(names)}")
    from v_diffusion.__main__ import main as print_machine

    from . import parts, weights

    print_machine()
    models = [weights.emoji_64()]
    if args.short:
        args.rounds = 1
    else:
        models.append(weights.cc12m_1())
    for part in args.parts or USUAL:
        for files in models:
            parts.PARTS[part](files, args)
    return 0


if __name__ == "__main__":
    open_streams()
    require(PROGRAM, "torch", "torchvision", "PIL")
    sys.exit(exit_status(PROGRAM, main))
