"""The scripts: which options of a job each has, and with which defaults. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffusion import get_models
from diffusion.methods import METHODS, STOCHASTIC

from ..images.names import PATTERN
from ..weights import store

EVERYWHERE = "prompts images model checkpoint clip_checkpoint method steps size".split()


@dataclass(frozen=True)
class Script:
    """What a script can be told, and what it does untold.

    Args:
        name: its file's, without the suffix.
        options: the fields of a job that it has beside those that all have.
        prompt_weight: of a prompt that says none.
        defaults: of the options, where the model's card doesn't have them.
        output: the pattern of its pictures' paths.
        weights: what a prompt's weight means, for its help.
    """

    name: str
    options: frozenset[str]
    prompt_weight: float
    defaults: Mapping[str, Any]
    output: str
    weights: str

    def has(self, option: str) -> bool:
        return option in EVERYWHERE or option in self.options

    def models(self) -> list[str]:
        """The models that it draws with. Without CLIP's guidance a model has to know how to draw
        without an embedding, and with one.
        """
        cards = store.cards()
        return [name for name in get_models() if self is CLIP_SAMPLE or cards[name].unprompted]

    def methods(self) -> list[str]:
        """The samplers that it draws with: noise can't be taken back."""
        stochastic = STOCHASTIC if self is CFG_MODIFY_IMAGE else ()
        return [method for method in METHODS if method not in stochastic]


CFG_WEIGHTS = """A prompt's weight stands after a colon, 'a fox:2'; without one it is 3. The
network is asked once for each prompt and once without words, and the last answer's weight is 1
less the sum of the others. So a weight of 1 is the model's own idea of a prompt; more is that
driven further from what it would draw without words, 0 is as if the prompt were not there, and
a negative one leads away from it. The weights of several prompts add up: two of 1.5 are as
strong as one of 3."""

CLIP_SAMPLE = Script(
    "clip_sample",
    frozenset("clip eta seed clip_guidance_scale cutn cut_pow init starting_timestep".split()),
    1.0,
    {"model": "cc12m_1", "cutn": 16, "cut_pow": 1.0, "starting_timestep": 0.9},
    PATTERN,
    "A prompt's weight stands after a colon: 'a lighthouse:2' 'fog:-0.5'.",
)
CFG_SAMPLE = Script(
    "cfg_sample",
    frozenset("eta seed init starting_timestep".split()),
    3.0,
    {"model": "cc12m_1_cfg", "method": "plms", "steps": 50, "starting_timestep": 0.9},
    PATTERN,
    CFG_WEIGHTS,
)
CFG_MODIFY_IMAGE = Script(
    "cfg_modify_image",
    frozenset("init max_timestep".split()),
    3.0,
    {"model": "cc12m_1_cfg", "method": "plms", "steps": 50, "max_timestep": 1.0},
    "out.png",
    CFG_WEIGHTS,
)
SCRIPTS = {script.name: script for script in (CLIP_SAMPLE, CFG_SAMPLE, CFG_MODIFY_IMAGE)}


def not_of(option: str, script: Script) -> str:
    """What to say of another script's option, the field of a job, that a script is given."""
    others = " and ".join(f"{one.name}.py" for one in SCRIPTS.values() if one.has(option))
    return f"{option.replace('_', ' ')}: {script.name}.py has no such option, but {others}"
