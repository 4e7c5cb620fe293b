"""`python -m checkpoints`: what weights there are, fetched and verified by name.

For machines whose compute nodes have no network: fetch on one that has, verify where it runs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import store
from .console import Parser, Unheard, leave, note, open_streams, require, say
from .download import human_size
from .store import Card, CheckpointError


def card_name(text: str) -> str:
    known = store.cards()
    if text not in known:
        raise argparse.ArgumentTypeError(f"no checkpoint {text!r}: there are {', '.join(known)}")
    return text


def parse(argv: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    parser = Parser(prog=prog, description="The weights on this disk.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help="what there is and where it is on disk (the default)")
    fetch = commands.add_parser("fetch", help="fetch what is not on disk, and print each path")
    fetch.add_argument("names", nargs="+", metavar="NAME", type=card_name)
    verify = commands.add_parser("verify", help="check the SHA-256 of what is on disk")
    verify.add_argument("names", nargs="*", metavar="NAME", type=card_name)
    change = commands.add_parser("convert", help="write a file's tensors in another format")
    change.add_argument("source", metavar="A", type=Path, help="a .pth, .pt or .safetensors")
    change.add_argument("target", metavar="B", type=Path, help="likewise; its suffix is the format")
    return parser.parse_args(argv)


def folders(card: Card) -> list[Path]:
    """Where a file may be, besides checkpoints/."""
    return [store.at_home(store.CLIP_CACHE)] if card.kind == "clip" else []


def row(card: Card) -> tuple[str, str, str, str]:
    """A card's line in the table."""
    path = store.locate(card, folders(card))
    if path:
        size = human_size(path.stat().st_size)
    else:
        size = human_size(card.size) if card.size else "?"
    return card.name, size, str(path or "not here"), "shipped" if card.shipped else ""


def show_list() -> int:
    rows = [("name", "size", "where", ""), *map(row, store.cards().values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, size, where, shipped in rows:
        line = f"{name:{widths[0]}}  {size:>{widths[1]}}  {where:{widths[2]}}  {shipped}"
        say(line.rstrip())
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
            say(there or store.obtain(name, folders(card)))
        except CheckpointError as error:
            note(str(error))
            status = 1
    return status


def convert(source: Path, target: Path) -> int:
    """Prints the path of the new file."""
    from .convert import convert  # imports torch

    try:
        convert(source, target)
    except CheckpointError as error:
        note(str(error))
        return 1
    say(target)
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
            say(f"{name}: {path} is {verdict}")
    return status


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs a command line and returns its exit status.

    Args:
        argv: the arguments, those of the process if None.
        prog: what the messages call the program, the file's name if None.
    """
    open_streams()
    try:
        args = parse(argv, prog)
        if args.command == "fetch":
            require(prog or "checkpoints", "requests", "tqdm", "filelock")
            status = fetch(args.names)
        elif args.command == "convert":
            require(prog or "checkpoints", "torch", "safetensors")
            status = convert(args.source, args.target)
        elif args.command == "verify":
            status = verify(args.names)
        else:
            status = show_list()
        return status
    except KeyboardInterrupt:
        note("interrupted; the next fetch goes on where this one stopped")
        return 130
    except BrokenPipeError:
        leave(sys.stdout)
        return 1
    except Unheard as error:
        note(str(error))
        return 1
