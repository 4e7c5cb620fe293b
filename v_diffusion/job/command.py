"""The command line that draws one picture, as text for a shell."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from diffusion.methods import STOCHASTIC, TAKES_ETA

from ..shell.addresses import without_secrets
from ..weights.cards import cards
from .options import CARD, DEFAULT_GUIDE, job_options
from .prompt import Prompt, write_prompt
from .script import CLIP_SAMPLE, SCRIPTS

if TYPE_CHECKING:
    from .job import Job

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # tabs and line breaks are harmless
ESCAPED = re.compile(rf"{CONTROL.pattern}|['\\]")


def quoted(word: str) -> str:
    """Return a word as a shell reads it and a terminal shows it.

    Control characters become the numbers of their bytes in the quotes that bash, zsh, ksh and POSIX
    (2024) have for that: `$'a\\007'`.
    """
    if not CONTROL.search(word):
        return shlex.quote(word)

    def number(found: re.Match[str]) -> str:
        return "".join(f"\\{byte:03o}" for byte in found[0].encode())

    return f"$'{ESCAPED.sub(number, word)}'"


def command_of(job: Job) -> str:
    """Return the line that draws this picture. Secrets in addresses are left out of it."""
    script, card = SCRIPTS[job.script], cards()[job.model]
    usual = {"size": (card.side, card.side), "clip": card.clip or DEFAULT_GUIDE}
    # Of these the line says what eta tells as well, or what has no effect.
    implied = {"method"} if script is CLIP_SAMPLE and job.method in ("ddpm", "ddim") else set()
    implied |= set() if job.method in (*TAKES_ETA, *STOCHASTIC) else {"eta"}
    line = [f"./{job.script}.py"]
    behind: list[str] = []
    for name, row in job_options(script).items():
        value = getattr(job, name)
        default = usual.get(name, None if row.default is CARD else row.default)
        if name in implied or name == "prompts" or value in (None, default, ()):
            continue
        if name == "images":
            public = [Prompt(without_secrets(path), weight) for path, weight in value]
            line += ["--images", *(write_prompt(one, script.prompt_weight) for one in public)]
        elif not row.flags:  # the picture to modify, before the prompts
            behind.append(without_secrets(value))
        else:
            values = value if name == "size" else [without_secrets(str(value))]
            line += [row.label, *map(str, values)]
    texts = [write_prompt(prompt, script.prompt_weight) for prompt in job.prompts]
    separator = ["--"] if behind or texts else []
    return " ".join([shlex.join([*line, *separator, *behind]), *map(quoted, texts)])
