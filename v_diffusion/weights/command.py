"""List, fetch, verify and convert files of weights: `python -m v_diffusion.weights`.

For machines whose compute nodes have no network: fetch on one that has, verify where it runs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..shell import program
from ..shell.console import Parser, add_version, note, print_line, printable, require
from ..shell.paths import expand_user
from . import store
from .cards import Card, CheckpointError, cards
from .download import human_size

QUICK = 2**29  # bytes: what is larger is not hashed for a list, that is for verify
NEARLY = 0.1  # by which a published file's size may be off where the exact one isn't known
WRONG = "not the right file"
NAME = "v-diffusion-checkpoints"


def card_name(text: str) -> str:
    """Check the name of a card, for argparse."""
    known = cards()
    if text not in known:
        raise argparse.ArgumentTypeError(f"no checkpoint {text!r}: there are {', '.join(known)}")
    return text


def build_parser(prog: str | None) -> Parser:
    """Return the parser of the command line, with the program's name in the messages."""
    parser = Parser(prog=prog, description="List, fetch, verify and convert files of weights.")
    add_version(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser(
        "list", help="name, option, size and place of every file of weights (the default)"
    )
    fetch = commands.add_parser("fetch", help="fetch what is not on disk, and print each path")
    fetch.add_argument("names", nargs="+", metavar="NAME", type=card_name)
    verify = commands.add_parser("verify", help="check the SHA-256 of what is on disk")
    verify.add_argument("names", nargs="*", metavar="NAME", type=card_name)
    change = commands.add_parser("convert", help="write a file's tensors in another format")
    change.add_argument("source", metavar="A", type=expand_user, help="a .pth, .pt or .safetensors")
    change.add_argument(
        "target", metavar="B", type=expand_user, help="the new file, whose suffix is its format"
    )
    return parser


def folders(card: Card) -> list[Path]:
    """Return where a file may be, besides checkpoints/."""
    return [expand_user(store.CLIP_CACHE)] if card.kind == "clip" else []


def option(card: Card) -> str:
    """Return the option that takes the card's name."""
    if card.kind == "diffusion":
        return "--model"
    return "" if card.shipped else "--clip"  # that one comes with its model


def is_wrong(card: Card, path: Path) -> bool:
    """Return whether a file is not the card's, by its size, and if it is not large by its hash."""
    try:
        size = path.stat().st_size
        if card.bytes is None and card.approximate_bytes is not None:
            if abs(size / card.approximate_bytes - 1) > NEARLY:
                return True
        elif card.bytes not in (None, size):
            return True
        known = card.sha256 is not None and size <= QUICK
        return known and store.mismatch(card, path) is not None
    except OSError:
        return True


def row(card: Card) -> tuple[str, str, str, str, str]:
    """Return a card's line in the table."""
    path = store.locate(card, folders(card))
    if path:
        size = human_size(path.stat().st_size)
    else:
        size = human_size(card.size) if card.size else "?"
    marks = ["shipped"] * card.shipped + [WRONG] * (path is not None and is_wrong(card, path))
    return card.name, option(card), size, printable(path or "not here"), ", ".join(marks)


def show_list() -> None:
    """Print the table."""
    rows = [("name", "option", "size", "where", ""), *map(row, cards().values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, taken_by, size, where, marks in rows:
        line = f"{name:{widths[0]}}  {taken_by:{widths[1]}}  {size:>{widths[2]}}  "
        print_line(f"{line}{where:{widths[3]}}  {marks}".rstrip())


def fetch(names: Sequence[str]) -> int:
    """Print the path of each file; where one can't be had, go on with the next. Return a status."""
    program.clean_up_on_interrupt()
    status = 0
    for name in names:
        card = cards()[name]
        try:
            there = store.locate(card, folders(card))
            if there is not None:  # what is fetched is checked on the way
                store.verify(card, there)
            print_line(there or store.obtain(name, folders(card)))
        except CheckpointError as error:
            note(str(error))
            status = 1
        except KeyboardInterrupt:
            note("interrupted; the next fetch goes on where this one stopped")
            raise
    return status


def verify(names: Sequence[str]) -> int:
    """Check what is on disk; a file that was asked for by name has to be there. Return a status."""
    status = 0
    known = cards()
    for name in names or known:
        card = known[name]
        path = store.locate(card, folders(card))
        if path is None:
            if names:
                note(f"{name}: {card.file} is not here")
                status = 1
            continue
        try:
            store.verify(card, path)
        except CheckpointError as error:
            note(str(error))
            status = 1
        else:
            verdict = "right" if card.sha256 else "not on record"
            print_line(f"{name}: {path} is {verdict}")
    return status


def convert(source: Path, target: Path) -> None:
    """Print the path of the new file."""
    from .convert import convert

    program.clean_up_on_interrupt()
    convert(source, target)
    print_line(target)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run a command line and return its exit status.

    Args:
        argv: the arguments, those of the process if None.
        prog: the program's name in messages, the file's name if None.
    """
    parser = build_parser(prog)

    def run() -> int | None:
        args = parser.parse_args(argv)
        if args.command == "fetch":
            require(parser.prog, "requests", "tqdm", "filelock")
            return fetch(args.names)
        if args.command == "verify":
            return verify(args.names)
        if args.command == "convert":
            require(parser.prog, "torch", "safetensors")
            convert(args.source, args.target)
        else:
            show_list()
        return None

    return program.exit_status(parser.prog, run)


def command(prog: str = NAME) -> int:
    """Be the program: run the process's command line and return its exit status."""
    program.begin(prog, [])
    return program.end(main(prog=prog))
