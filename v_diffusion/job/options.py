"""The table of all options of the sampling scripts, a row for each.

The command line, the keys of a job file's lines, the checks of a `Job` and docs/options.md are made
from it.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..weights.cards import cards
from .prompt import Prompt, parse_prompt
from .script import CFG_MODIFY_IMAGE, CFG_SAMPLE, CLIP_SAMPLE, SCRIPTS, Script
from .values import COUNT, PROMPTS_FIRST, SIDE, Range, seed, text

DEFAULT_GUIDE = "ViT-B/16"  # guides models that have no CLIP of their own
CARD = object()  # the default is the one on the model's card
# The sections. The first two have the fields of a `Job`.
PICTURE, GUIDANCE = "the picture", "guidance"
RUN, EXECUTION, MESSAGES = "the run", "how to draw", "messages"


def guides() -> list[str]:
    """Return the names of the CLIPs."""
    return [name for name, card in cards().items() if card.kind == "clip"]


def guide(value: Any) -> Prompt:
    """An argparse type: a CLIP's name, and its weight after a colon."""
    found = value if isinstance(value, Prompt) else parse_prompt(text(value))
    if found.text not in guides():
        why = f"is not available; use one of {', '.join(guides())}; {PROMPTS_FIRST}"
        raise argparse.ArgumentTypeError(f"{found.text!r} {why}")
    return found


def film(value: Any) -> str:
    """An argparse type: the pattern of films' names, empty or true for films beside the images."""
    return "" if value is True else text(value)


@dataclass(frozen=True)
class Option:
    """A row of the table."""

    name: str  # the field of the `Job` or of the run, and the key of a job file's line
    flags: tuple[str, ...]  # none for a positional argument
    group: str
    help: str
    type: Callable[[Any], Any] | None = None  # makes a value of a text, or checks a value
    default: Any = None  # a value, CARD, or words for the help
    scripts: tuple[Script, ...] = tuple(SCRIPTS.values())
    choices: Callable[[Script], list[str]] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)  # more of `add_argument`'s arguments

    @property
    def label(self) -> str:
        """The option as messages name it."""
        return self.flags[0] if self.flags else self.name

    def default_in(self, script: Script) -> str | None:
        """Return the default in a script as text, None if there is none to tell."""
        default = script.defaults.get(self.name, self.default)
        if default is CARD:
            found: dict[str, list[str]] = {}
            for model in script.models():
                value = cards()[model].sampling[self.name]
                found.setdefault(f"{value:g}", []).append(model)
            usual = max(found, key=lambda value: len(found[value]))
            others = [f"{', '.join(found[one])}: {one}" for one in found if one != usual]
            return "; ".join([usual, *others])
        if default is None:
            return None
        return f"{default:g}" if isinstance(default, float) else str(default)


FLAG = {"action": "store_true"}
SEVERAL = {"nargs": "+", "action": "extend"}
WITH_SEED = (CLIP_SAMPLE, CFG_SAMPLE)
UNIT = Range(0, 1)

TABLE = (
    Option(
        "init", (), PICTURE, "the picture to modify: a file or an address", text,
        scripts=(CFG_MODIFY_IMAGE,), extra={"nargs": "?", "metavar": "INIT"},
    ),
    Option("prompts", (), PICTURE, "the text prompts", extra={"nargs": "*"}),
    Option(
        "images", ("--images",), PICTURE,
        "the image prompts: files, or file, HTTP or HTTPS addresses",
        extra={"nargs": "*", "action": "extend", "metavar": "IMAGE"},
    ),
    Option(
        "model", ("--model",), PICTURE, "the diffusion model", text,
        choices=Script.models, extra={"metavar": "MODEL"},
    ),
    Option(
        "checkpoint", ("--checkpoint",), PICTURE, "the file of the model's weights", text,
        default="the published or shipped file", extra={"metavar": "FILE"},
    ),
    Option(
        "clip", ("--clip",), PICTURE,
        f"the CLIPs that guide, each with its weight after a colon, of {', '.join(guides())}",
        guide, default=f"the model's own, else {DEFAULT_GUIDE}", scripts=(CLIP_SAMPLE,),
        extra=SEVERAL | {"metavar": "CLIP"},
    ),
    Option(
        "clip_checkpoint", ("--clip-checkpoint",), PICTURE,
        "the file of CLIP's weights; for several CLIPs, a file for each in their order", text,
        default="the published or shipped files", extra=SEVERAL | {"metavar": "FILE"},
    ),
    Option(
        "method", ("--method",), PICTURE, "the sampler", text,
        default="ddpm where eta is 1, else ddim", choices=Script.methods,
    ),
    Option("steps", ("--steps",), PICTURE, "the number of steps", Range(1, 10**6, True), CARD),
    Option(
        "eta", ("--eta",), PICTURE,
        "the share of fresh noise in each step, from 0 (DDIM) to 1 (DDPM)", UNIT, CARD,
        scripts=WITH_SEED,
    ),
    Option(
        "size", ("--size",), PICTURE, "the picture's size in pixels", SIDE,
        default="the model's own", extra={"nargs": 2, "metavar": ("WIDTH", "HEIGHT")},
    ),
    Option(
        "init", ("--init",), PICTURE, "a picture to start from: a file or an address", text,
        scripts=WITH_SEED, extra={"metavar": "IMAGE"},
    ),
    Option(
        "starting_timestep", ("--starting-timestep", "-st"), PICTURE,
        "the noise that --init starts with, from 0 to 1", UNIT, 0.9, scripts=WITH_SEED,
    ),
    Option(
        "mask", ("--mask",), PICTURE,
        "the part of --init to draw anew, a file or an address: white is drawn, black is kept, "
        "grey is drawn from a later time on", text,
        scripts=WITH_SEED, extra={"metavar": "IMAGE"},
    ),
    Option(
        "max_timestep", ("--max-timestep", "-mt"), PICTURE,
        "the time up to which the picture is turned into noise, from 0 to 1", UNIT, 1.0,
        scripts=(CFG_MODIFY_IMAGE,),
    ),
    Option(
        "seed", ("--seed",), PICTURE,
        "the first image's seed; each further image has the next one; -1 or random draws a seed "
        "and prints it", seed, 0, scripts=WITH_SEED,
    ),
    Option(
        "clip_guidance_scale", ("--clip-guidance-scale", "-cs"), GUIDANCE,
        "the strength of CLIP's guidance; 0 turns it off", Range(), CARD, scripts=(CLIP_SAMPLE,),
    ),
    Option(
        "cutn", ("--cutn",), GUIDANCE, "the number of random cutouts that CLIP sees of a picture",
        Range(1, 2**16, True), 16, scripts=(CLIP_SAMPLE,),
    ),
    Option(
        "cut_pow", ("--cut-pow",), GUIDANCE,
        "the power of the cutouts' sizes: above 1 for smaller cutouts, below 1 for larger ones",
        Range(0, 1000), 1.0, scripts=(CLIP_SAMPLE,),
    ),
    Option(
        "cut_batches", ("--cut-batches",), GUIDANCE,
        "the number of times that CLIP sees --cutn cutouts in each step, one after the other: more "
        "cutouts in the same memory", Range(1, 2**16, True), 1, scripts=(CLIP_SAMPLE,),
    ),
    Option(
        "guide_between", ("--guide-between",), GUIDANCE,
        "guide between two times only, from 0, the picture, to 1, noise", UNIT,
        default="0 1", extra={"nargs": 2, "metavar": ("T0", "T1")},
    ),
    Option(
        "threshold", ("--threshold",), GUIDANCE,
        "bring the picture of each step back into range by this share of its values, from 0 to 1; "
        "1 clamps it", UNIT, scripts=WITH_SEED, extra={"metavar": "P"},
    ),
    Option("n", ("-n",), RUN, "the number of images", COUNT, 1, scripts=WITH_SEED),
    Option(
        "output", ("--output", "-o"), RUN,
        "the pattern of the images' paths; {i} is an image's number, {seed} its seed and {prompt} "
        "its prompts; the suffix chooses the format: .png, .jpg, .jpeg or .webp", text,
        extra={"metavar": "PATTERN"},
    ),
    Option(
        "jobs", ("--jobs",), RUN,
        "draw the jobs of a file, one JSON object or one prompt a line, or of stdin (-); keys are "
        "named like the long options, which fill in what a line leaves out",
        extra={"metavar": "FILE"},
    ),
    Option(
        "again", ("--again",), RUN,
        "draw these images again from their metadata, with the changes that other options make",
        extra=SEVERAL | {"metavar": "IMAGE"},
    ),
    Option(
        "resume", ("--resume",), RUN,
        "skip images that exist, are complete and were made with the same settings", extra=FLAG,
    ),
    Option(
        "no_clobber", ("--no-clobber",), RUN, "skip images whose file exists, whatever it holds",
        extra=FLAG,
    ),
    Option(
        "no_metadata", ("--no-metadata",), RUN, "don't write into the images how they were made",
        extra=FLAG,
    ),
    Option(
        "preview", ("--preview",), RUN,
        "show each image while it is drawn, in a file beside it that ends in .preview.png; EVERY "
        "is the number of steps between two updates", COUNT, "about one update a second",
        extra={"nargs": "?", "const": 0, "metavar": "EVERY"},
    ),
    Option(
        "film", ("--film",), RUN,
        "show how each image comes out of the noise, in a film beside it whose name ends in "
        ".film.png, or in FILE, a pattern like --output's; the suffix chooses the format: .png, "
        ".webp or .gif", film, extra={"nargs": "?", "const": "", "metavar": "FILE"},
    ),
    Option(
        "grid", ("--grid",), RUN, "make a contact sheet of all images at the end (grid.png)",
        extra={"nargs": "?", "const": "grid.png", "metavar": "FILE"},
    ),
    Option(
        "batch_size", ("--batch-size", "-bs"), EXECUTION, "the number of images drawn together",
        COUNT, 1,
    ),
    Option(
        "checkpointing", ("--checkpointing",), EXECUTION,
        "use less memory for guidance at the cost of time: recompute activations",
        scripts=(CLIP_SAMPLE,), extra=FLAG,
    ),
    Option(
        "cfg_batch", ("--cfg-batch",), EXECUTION,
        "the number of images times conditions evaluated together; less takes less memory", COUNT,
        "all", (CFG_SAMPLE, CFG_MODIFY_IMAGE), extra={"metavar": "N"},
    ),
    Option(
        "precision", ("--precision",), EXECUTION,
        "the type of numbers to compute in; bf16 and fp16 take less time and memory, and round",
        text, default="fp16 on CUDA, fp32 elsewhere", choices=lambda _: ["fp32", "bf16", "fp16"],
    ),
    Option(
        "compile", ("--compile",), EXECUTION,
        "compile the model first, which takes a minute and pays for many images on CUDA",
        extra=FLAG,
    ),
    Option(
        "threads", ("--threads",), EXECUTION,
        "the number of CPU threads; another number rounds differently", Range(1, 1024, True),
        "one for each core", extra={"metavar": "N"},
    ),
    Option(
        "device", ("--device",), EXECUTION, "the device", text, "CUDA, else MPS, else the CPU",
    ),
    Option("quiet", ("--quiet",), MESSAGES, "print only warnings and errors to stderr", extra=FLAG),
    Option(
        "list_prompts", ("--list-prompts",), MESSAGES,
        "list the names of the things that the model knows, with their emoji, and exit", extra=FLAG,
    ),
)  # fmt: skip


def options_of(script: Script) -> dict[str, Option]:
    """Return the rows of a script by name, in the table's order."""
    return {row.name: row for row in TABLE if script in row.scripts}


def job_options(script: Script) -> dict[str, Option]:
    """Return those of a script's rows that are fields of a `Job`."""
    return {
        name: row for name, row in options_of(script).items() if row.group in (PICTURE, GUIDANCE)
    }


def line_keys(script: Script) -> list[str]:
    """Return the keys of a job file's line."""
    numbered = ["n"] if "n" in options_of(script) else []
    return [*job_options(script), *numbered, "output", "film", "script"]


def not_available(name: str, script: Script) -> str:
    """Return the message for an option that only other scripts have."""
    rows = [row for row in TABLE if row.name == name]
    others = " and ".join(f"{one.name}.py" for row in rows for one in row.scripts)
    return f"{rows[0].label} is an option of {others}, not of {script.name}.py; leave it out"
