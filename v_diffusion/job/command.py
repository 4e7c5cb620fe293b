"""The command line that draws one picture, as text for a shell."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from ..shell.addresses import without_secrets
from ..weights.cards import cards
from .options import CARD, DEFAULT_GUIDE, job_options
from .prompt import Prompt, write_prompt
from .script import SCRIPTS

if TYPE_CHECKING:
    from .job import Job


def command_of(job: Job, precision: str | None = None) -> str:
    """Return the line that draws this picture. Secrets in addresses are left out of it."""
    script, card = SCRIPTS[job.script], cards()[job.model]
    own = Prompt(card.clip or DEFAULT_GUIDE, 1.0)
    usual = {"size": (card.side, card.side), "clip": (own,)}
    line = [f"./{job.script}.py"]
    line += [] if precision is None else ["--precision", precision]
    behind: list[str] = []
    for name, row in job_options(script).items():
        value = getattr(job, name)
        default = usual.get(name, None if row.default is CARD else row.default)
        if name == "prompts" or value in (None, default, ()):
            continue
        if name in ("images", "clip"):
            public = [Prompt(without_secrets(path), weight) for path, weight in value]
            line += [row.label, *(write_prompt(one, script.prompt_weight) for one in public)]
        elif not row.flags:  # the picture to modify, before the prompts
            behind.append(without_secrets(value))
        else:
            values = value if isinstance(value, tuple) else [value]
            line += [row.label, *(without_secrets(str(one)) for one in values)]
    texts = [write_prompt(prompt, script.prompt_weight) for prompt in job.prompts]
    return shlex.join([*line, *(["--"] if behind or texts else []), *behind, *texts])
