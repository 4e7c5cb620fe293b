"""`python -m v_diffusion.weights`: what weights there are, fetched and verified by name.

For machines whose compute nodes have no network: fetch on one that has, verify where it runs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..shell.console import (
    OutputClosed,
    Parser,
    add_version,
    leave,
    note,
    open_streams,
    print_line,
    printable,
    require,
)
from ..shell.paths import expand_user
from . import store
from .download import human_size
from .store import Card, CheckpointError

QUICK = 2**29  # bytes: what is larger is not hashed for a list, that is for verify
NEARLY = 0.1  # by which a published file's size may be off where the exact one isn't known
WRONG = "not the right file"
LIST = "what there is, what takes its name, and where it is on disk (the default)"


def card_name(text: str) -> str:
    known = store.cards()
    if text not in known:
        raise argparse.ArgumentTypeError(f"no checkpoint {text!r}: there are {', '.join(known)}")
    return text


def parse(argv: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    parser = Parser(prog=prog, description="The weights on this disk.")
    add_version(parser)
    parser.set_defaults(program=parser.prog)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help=LIST)
    fetch = commands.add_parser("fetch", help="fetch what is not on disk, and print each path")
    fetch.add_argument("names", nargs="+", metavar="NAME", type=card_name)
    verify = commands.add_parser("verify", help="check the SHA-256 of what is on disk")
    verify.add_argument("names", nargs="*", metavar="NAME", type=card_name)
    change = commands.add_parser("convert", help="write a file's tensors in another format")
    change.add_argument("source", metavar="A", type=expand_user, help="a .pth, .pt or .safetensors")
    change.add_argument(
        "target", metavar="B", type=expand_user, help="likewise; its suffix is the format"
    )
    return parser.parse_args(argv)


def folders(card: Card) -> list[Path]:
    """Where a file may be, besides checkpoints/."""
    return [expand_user(store.CLIP_CACHE)] if card.kind == "clip" else []


def option(card: Card) -> str:
    """The option that takes the card's name."""
    if card.kind == "diffusion":
        return "--model"
    return "" if card.shipped else "--clip"  # that one comes with its model


def is_wrong(card: Card, path: Path) -> bool:
    """Whether a file is not the card's, by its size, and if it is not large by its hash."""
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
    """A card's line in the table."""
    path = store.locate(card, folders(card))
    if path:
        size = human_size(path.stat().st_size)
    else:
        size = human_size(card.size) if card.size else "?"
    marks = ["shipped"] * card.shipped + [WRONG] * (path is not None and is_wrong(card, path))
    return card.name, option(card), size, printable(path or "not here"), ", ".join(marks)


def show_list() -> int:
    rows = [("name", "option", "size", "where", ""), *map(row, store.cards().values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, taken_by, size, where, marks in rows:
        line = f"{name:{widths[0]}}  {taken_by:{widths[1]}}  {size:>{widths[2]}}  "
        print_line(f"{line}{where:{widths[3]}}  {marks}".rstrip())
    return 0


def fetch(names: Sequence[str]) -> int:
    """Prints the path of each file; where one can't be had, goes on with the next."""
    status = 0
    for name in names:
        card = store.cards()[name]
        try:
            there = store.locate(card, folders(card))
            if there is not None:  # what is fetched is checked on the way
                store.verify(card, there)
            print_line(there or store.obtain(name, folders(card)))
        except CheckpointError as error:
            note(str(error))
            status = 1
    return status


def convert(source: Path, target: Path, prog: str) -> int:
    """Prints the path of the new file."""
    from .convert import BadRequest, convert

    try:
        convert(source, target)
    except CheckpointError as error:
        note(f"{prog}: {error}")
        return 2 if isinstance(error, BadRequest) else 1
    print_line(target)
    return 0


def verify(names: Sequence[str]) -> int:
    """Checks what is on disk. Where a file was asked for by name, it has to be there."""
    status = 0
    known = store.cards()
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


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs a command line and returns its exit status.

    Args:
        argv: the arguments, those of the process if None.
        prog: what the messages call the program, the file's name if None.
    """
    open_streams()
    kept = ""  # of what is interrupted
    try:
        args = parse(argv, prog)
        if args.command == "fetch":
            require(prog or "checkpoints", "requests", "tqdm", "filelock")
            kept = "; the next fetch goes on where this one stopped"
            status = fetch(args.names)
        elif args.command == "convert":
            require(prog or "checkpoints", "torch", "safetensors")
            status = convert(args.source, args.target, args.program)
        elif args.command == "verify":
            status = verify(args.names)
        else:
            status = show_list()
        return status
    except KeyboardInterrupt:
        note(f"interrupted{kept}")
        return 130
    except BrokenPipeError:
        leave(sys.stdout)
        return 1
    except OutputClosed as error:
        note(str(error))
        return 1
