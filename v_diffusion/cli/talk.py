"""What a script says, and what it says of itself instead of drawing. Imports no torch."""

from ..shell.console import Parser, add_version, print_line
from ..shell.program import UserError
from ..studio import vocabulary
from ..weights import store


def add_talk(parser: Parser) -> None:
    """The options for this."""
    group = parser.add_argument_group("what is said")
    group.add_argument(
        "--quiet",
        action="store_true",
        help="say nothing on stderr but warnings and what went wrong",
    )
    group.add_argument(
        "--list-prompts",
        action="store_true",
        help="print the names of the things that the model knows, with their emoji, and no more",
    )
    add_version(group)


def show_prompts(model: str) -> None:
    """Prints what a model has learned by name: a line each, the name, a tab and its emoji.

    Raises:
        UserError: nobody has written it down.
    """
    known = vocabulary.of(model)
    if known is None:
        others = [name for name, card in store.cards().items() if card.vocabulary]
        there = f"there is one of --model {', '.join(others)}"
        raise UserError(f"--list-prompts: {model} has no list of what it knows; {there}")
    for line in vocabulary.lines(known):
        print_line(line)
