"""List, fetch, verify and convert files of weights: `python -m v_diffusion.weights`.

For machines whose compute nodes have no network: fetch on one that has, verify where it runs.
"""

from collections.abc import Callable, Iterable, Sequence

from ..shell import program
from ..shell.console import Parser, add_version, note, print_line, printable, require
from ..shell.paths import expand_user
from . import store
from .cards import Card, CheckpointError, cards, find_card
from .convert import convert
from .download import human_size


def build_parser(prog: str | None) -> Parser:
    """Return the parser of the command line, with the program's name in the messages."""
    parser = Parser(prog=prog, description="List, fetch, verify and convert files of weights.")
    add_version(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help="name, option, size and place of every file (the default)")
    fetch = commands.add_parser("fetch", help="fetch what is not on disk, and print each path")
    fetch.add_argument("names", nargs="+", metavar="NAME", type=find_card)
    verify = commands.add_parser("verify", help="check the SHA-256 of what is on disk")
    verify.add_argument("names", nargs="*", metavar="NAME", type=find_card)
    change = commands.add_parser("convert", help="write a file's tensors in another format")
    change.add_argument("source", metavar="A", type=expand_user, help="a .pth, .pt or .safetensors")
    change.add_argument(
        "target", metavar="B", type=expand_user, help="the new file, whose suffix is its format"
    )
    return parser


def option(card: Card) -> str:
    """Return the option that takes the card's name."""
    return "--model" if card.kind == "diffusion" else "--clip"


def show_list() -> None:
    """Print the table."""
    rows = [("name", "option", "size", "where", "")]
    for card in cards().values():
        path = store.locate(card)
        size = human_size(path.stat().st_size if path else card.bytes)
        place = printable(path or "not here")
        rows.append((card.name, option(card), size, place, "shipped" if card.shipped else ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, taken_by, size, place, mark in rows:
        line = f"{name:{widths[0]}}  {taken_by:{widths[1]}}  {size:>{widths[2]}}  "
        print_line(f"{line}{place:{widths[3]}}  {mark}".rstrip())


def fetched(card: Card) -> str:
    """Return the path of a file, fetched if need be. Raises CheckpointError."""
    try:
        path = store.obtain(card.name)
    except KeyboardInterrupt:
        note("interrupted; the next fetch goes on where this one stopped")
        raise
    store.verify(card, path)
    return str(path)


def verified(card: Card) -> str:
    """Return that a file is right, or raise CheckpointError."""
    if (path := store.locate(card)) is None:
        raise CheckpointError(f"{card.name}: {card.file} is not here")
    store.verify(card, path)
    return f"{card.name}: {path} is right"


def each(wanted: Iterable[Card], make: Callable[[Card], str]) -> int:
    """Print a line for each file; where one fails, go on with the next. Return a status."""
    status = 0
    for card in wanted:
        try:
            print_line(make(card))
        except CheckpointError as error:
            note(str(error))
            status = 1
    return status


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run a command line, by default the process's, and return its exit status."""
    parser = build_parser(prog)

    def run() -> int | None:
        args = parser.parse_args(argv)
        if args.command == "fetch":
            require(parser.prog, "requests", "tqdm", "filelock")
            program.clean_up_on_interrupt()
            return each(args.names, fetched)
        if args.command == "verify":
            return each(args.names or filter(store.locate, cards().values()), verified)
        if args.command == "convert":
            require(parser.prog, "torch", "safetensors")
            program.clean_up_on_interrupt()
            convert(args.source, args.target)
            print_line(args.target)
        else:
            show_list()
        return None

    return program.exit_status(parser.prog, run)


def command(prog: str = "v-diffusion-checkpoints") -> int:
    """Be the program: run the process's command line and return its exit status."""
    program.begin(prog, [])
    return program.end(main(prog=prog))
