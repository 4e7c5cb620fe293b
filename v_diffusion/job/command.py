"""The command line that draws one picture, as text for a shell."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from diffusion.methods import STOCHASTIC, TAKES_ETA

from ..shell.addresses import without_secrets
from ..weights.cards import cards
from .options import DEFAULT_GUIDE, job_options
from .prompt import Prompt, write_prompt
from .script import CFG_MODIFY_IMAGE, CLIP_SAMPLE, SCRIPTS

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
    rows = job_options(script)
    usual = {"size": (card.side, card.side), "clip": card.clip or DEFAULT_GUIDE}
    line = [f"./{job.script}.py", "--model", job.model, "--steps", str(job.steps)]
    if job.method not in ("ddpm", "ddim"):  # eta tells these two apart
        line += ["--method", job.method]
    elif script is not CLIP_SAMPLE:
        line += ["--method", "ddim"]
    if "eta" in rows and job.method in (*TAKES_ETA, *STOCHASTIC):
        line += ["--eta", repr(job.eta)]
    if script is CLIP_SAMPLE:
        line += ["--clip-guidance-scale", repr(job.clip_guidance_scale)]
    for name in ("checkpoint", "clip", "clip_checkpoint", "cutn", "cut_pow"):
        value = getattr(job, name)
        if name in rows and value not in (None, usual.get(name, rows[name].default)):
            line += [rows[name].label, str(value)]
    if job.size != usual["size"]:
        line += ["--size", *map(str, job.size)]
    if job.images:
        public = [Prompt(without_secrets(path), weight) for path, weight in job.images]
        line += ["--images", *(write_prompt(one, script.prompt_weight) for one in public)]
    init = None if job.init is None else without_secrets(job.init)
    if script is CFG_MODIFY_IMAGE:
        line += ["--max-timestep", repr(job.max_timestep), "--", str(init)]
    else:
        if init is not None:
            line += ["--init", init, "--starting-timestep", repr(job.starting_timestep)]
        line += ["--seed", str(job.seed), "-n", "1", *["--"] * bool(job.prompts)]
    texts = [write_prompt(prompt, script.prompt_weight) for prompt in job.prompts]
    return " ".join([shlex.join(line), *map(quoted, texts)])
