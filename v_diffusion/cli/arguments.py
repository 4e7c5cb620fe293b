"""The options of the scripts, by group. Importing this imports no torch."""

from __future__ import annotations

import argparse
import re
from typing import Any

from ..images.names import FORMATS, PROMPTS_FIRST
from ..job.job import GUIDE
from ..job.limits import NUMBERS, SIDE
from ..job.script import CFG_MODIFY_IMAGE, CLIP_SAMPLE, Script
from ..shell.console import Parser
from ..shell.program import MANY, whole_number
from ..weights import store
from . import seeds
from .jobfile import STDIN
from .talk import add_talk

GRID = "grid.png"
MOST_THREADS = 1024


def of_card(name: str, script: Script) -> str:
    """The defaults that the models' cards have for an option, for its help."""
    if name in script.defaults:
        return f"(default: {script.defaults[name]})"
    found: dict[str, list[str]] = {}
    for model in script.models():
        found.setdefault(f"{store.cards()[model].sampling[name]:g}", []).append(model)
    usual = max(found, key=lambda value: len(found[value]))
    others = (f"{', '.join(found[value])}: {value}" for value in found if value != usual)
    return f"(default: {'; '.join([usual, *others])})"


def add_job(parser: Parser, script: Script) -> None:
    """What decides a picture. What isn't given is left to a job's own defaults."""
    group = parser.add_argument_group("the picture", argument_default=argparse.SUPPRESS)

    def add(*names: str, **options: Any) -> None:
        field = names[-1] if names[-1][0] != "-" else names[0].lstrip("-").replace("-", "_")
        if script.has(field):
            group.add_argument(*names, **options)

    if script is CFG_MODIFY_IMAGE:
        group.add_argument("init", nargs="?", metavar="INIT", help="the picture: file or address")
    group.add_argument("prompts", nargs="*", help="the text prompts")
    add(
        "--images",
        nargs="*",
        action="extend",
        metavar="IMAGE",
        help="the image prompts: files, or file, HTTP or HTTPS addresses",
    )
    add(
        "--model",
        choices=script.models(),
        metavar="MODEL",
        help=f"{', '.join(script.models())} (default: {script.defaults['model']})",
    )
    add(
        "--checkpoint",
        metavar="FILE",
        help="the model's file (default: the published one, in checkpoints/)",
    )
    add(
        "--clip",
        choices=guides(),
        metavar="CLIP",
        help="the CLIP that guides a model which takes no embedding: "
        f"{', '.join(guides())} (default: {GUIDE})",
    )
    add("--clip-checkpoint", metavar="FILE", help="CLIP's file (default: the model's own CLIP)")
    usual = script.defaults.get("method", "DDIM to DDPM, as --eta says")
    add("--method", choices=script.methods(), help=f"the sampler (default: {usual})")
    add(
        "--steps",
        type=NUMBERS["steps"],
        help=f"the number of steps {of_card('steps', script)}",
    )
    eta = of_card("eta", script) if script is CLIP_SAMPLE else "(default: 0)"
    add(
        "--eta",
        type=NUMBERS["eta"],
        help=f"the share of fresh noise in a step, 0 (DDIM) to 1 (DDPM) {eta}",
    )
    add(
        "--size",
        nargs=2,
        type=SIDE,
        metavar=("WIDTH", "HEIGHT"),
        help="of the picture, in pixels (default: the model's own)",
    )
    if script is not CFG_MODIFY_IMAGE:
        add("--init", metavar="IMAGE", help="a picture to start from: a file or an address")
    add(
        "--starting-timestep",
        "-st",
        type=NUMBERS["starting_timestep"],
        help="how much noise it starts with, 0 to 1 (default: 0.9)",
    )
    add(
        "--max-timestep",
        "-mt",
        type=NUMBERS["max_timestep"],
        help="how far it is taken to noise, 0 to 1 (default: 1)",
    )
    add(
        "--seed",
        type=seeds.seed,
        metavar="SEED",
        help="the first image's seed; image i has the seed beyond it by i; -1 or random: drawn, "
        "and told (default: 0)",
    )


def guides() -> list[str]:
    """The CLIPs that have learned of more than one model's pictures."""
    return [
        name for name, card in store.cards().items() if card.kind == "clip" and not card.shipped
    ]


def add_guidance(parser: Parser) -> None:
    """CLIP's guidance."""
    group = parser.add_argument_group("guidance", argument_default=argparse.SUPPRESS)
    group.add_argument(
        "--clip-guidance-scale",
        "-cs",
        type=NUMBERS["clip_guidance_scale"],
        help="how strongly CLIP guides; 0: not at all "
        f"{of_card('clip_guidance_scale', CLIP_SAMPLE)}",
    )
    group.add_argument(
        "--cutn",
        type=NUMBERS["cutn"],
        help="the number of random cutouts that CLIP sees of a picture (default: 16)",
    )
    group.add_argument(
        "--cut-pow",
        type=NUMBERS["cut_pow"],
        help="above 1 for smaller cutouts, below 1 for larger ones (default: 1)",
    )


def every(text: str) -> int:
    """An argparse type: after how many steps a preview is shown anew."""
    try:
        return whole_number(1, MANY)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; {PROMPTS_FIRST}") from None


def device(text: str) -> str:
    """An argparse type: a device's name. Whether there is one, PyTorch knows."""
    if not re.fullmatch(r"(cpu|cuda|mps)(:\d+)?", text):
        there = "cpu, cuda, a certain GPU as cuda:1, and mps"
        raise argparse.ArgumentTypeError(f"there is no device {text!r}; there are {there}")
    return text


def add_run(parser: Parser, script: Script) -> None:
    """How many pictures, of which jobs, and what becomes of them."""
    group = parser.add_argument_group("the run")
    seed = ", {seed} its seed" if script.has("seed") else ""
    if script.has("seed"):
        group.add_argument(
            "-n",
            type=whole_number(1, MANY),
            default=argparse.SUPPRESS,
            help="the number of images (default: 1)",
        )
    group.add_argument(
        "--output",
        "-o",
        default=argparse.SUPPRESS,
        metavar="PATTERN",
        help=f"where the images go; {{i}} is an image's number{seed}, {{prompt}} what it is to "
        f"show; the suffix says the format: {', '.join(FORMATS)} (default: {script.output})",
    )
    group.add_argument(
        "--jobs",
        metavar="FILE",
        help="draw the jobs of a file, one JSON object a line, keys named as the long options, or "
        f"one prompt a line; {STDIN} is stdin; what a line leaves out, the other options give",
    )
    group.add_argument(
        "--again",
        nargs="+",
        action="extend",
        default=[],
        metavar="IMAGE",
        help="draw as these images were drawn, but for the other options given",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="leave out the images that are there, whole, and made with the same settings",
    )
    group.add_argument(
        "--no-clobber",
        action="store_true",
        help="leave out the images whose file is there, whatever it is",
    )
    group.add_argument(
        "--no-metadata",
        action="store_true",
        help="leave out of the images how they were made",
    )
    group.add_argument(
        "--preview",
        nargs="?",
        type=every,
        const=0,
        metavar="EVERY",
        help="show each image while it is drawn, in a file beside it that ends in .preview.png, "
        "anew every so many steps (default: about once a second)",
    )
    group.add_argument(
        "--grid",
        nargs="?",
        const=GRID,
        metavar="FILE",
        help=f"make a contact sheet of all images in the end (default: {GRID})",
    )


def add_how(parser: Parser, script: Script) -> None:
    """How and where to draw, which changes no picture."""
    group = parser.add_argument_group("how to draw")
    group.add_argument(
        "--batch-size",
        "-bs",
        type=whole_number(1, MANY),
        default=1,
        help="images at a time (default: 1)",
    )
    if script is CLIP_SAMPLE:
        group.add_argument(
            "--checkpointing",
            action="store_true",
            help="guide in less memory and more time: compute again instead of keeping",
        )
    else:
        group.add_argument(
            "--cfg-batch",
            type=whole_number(1, MANY),
            metavar="N",
            help="of all images' conditions so many at a time, for less memory (default: all)",
        )
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the model first, which takes a minute: for many images on CUDA",
    )
    group.add_argument(
        "--threads",
        type=whole_number(1, MOST_THREADS),
        metavar="N",
        help="on a CPU compute in so many threads; another number rounds differently (default: "
        "one for each core)",
    )
    group.add_argument(
        "--device", type=device, help="the device (default: CUDA, else MPS, else the CPU)"
    )


def parser_of(script: Script, description: str | None) -> Parser:
    """All options of a script."""
    parser = Parser(description=description, epilog=script.weights)
    add_job(parser, script)
    if script is CLIP_SAMPLE:
        add_guidance(parser)
    add_run(parser, script)
    add_how(parser, script)
    add_talk(parser)
    return parser
