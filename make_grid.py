#!/usr/bin/env python3
"""Put many images of one mode and size into one: a contact sheet, row by row."""

import sys

from v_diffusion.shell import program

if __name__ == "__main__":  # before imports that take time
    program.begin("make_grid.py", ["PIL"])

from v_diffusion.images.names import all_identities, bad_pattern, check_file, identities
from v_diffusion.job.values import COUNT
from v_diffusion.shell.console import Parser, add_version, print_line
from v_diffusion.shell.paths import expand_user


def build_parser() -> Parser:
    """Return the parser of the options."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "images", type=expand_user, nargs="+", metavar="IMAGE", help="the images' files"
    )
    parser.add_argument(
        "--output", "-o", default="out.png", metavar="FILE", help="(default: out.png)"
    )
    parser.add_argument(
        "--nrow",
        type=COUNT,
        metavar="N",
        help="images a row (default: the square root of their number, rounded up)",
    )
    add_version(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit status."""
    parser = build_parser()

    def make() -> None:
        args = parser.parse_args(argv)
        path = check_file("--output", args.output)
        if identities(path) & all_identities(args.images):
            raise bad_pattern(args.output, "it is one of the images; give another name")
        from v_diffusion.images import contact_sheet, output

        output.prepare([path])
        contact_sheet.write_sheet(args.images, path, args.nrow)
        print_line(path)

    return program.exit_status(parser.prog, make)


if __name__ == "__main__":
    sys.exit(program.end(main()))
