"""The three sampling scripts and the models and methods that each can use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffusion import get_models
from diffusion.methods import METHODS, STOCHASTIC

from ..weights.cards import cards
from .prompt import Prompt, parse_prompt


@dataclass(frozen=True)
class Script:
    """A script, and those of its options' defaults that are its own."""

    name: str
    prompt_weight: float
    defaults: Mapping[str, Any]
    epilog: str

    def parse_prompt(self, prompt: str, default_weight: float | None = None) -> Prompt:
        """Split a prompt into its text, path or address and its weight."""
        weight = self.prompt_weight if default_weight is None else default_weight
        return parse_prompt(prompt, weight)

    def models(self) -> list[str]:
        """Return its models: without CLIP's guidance, those that can draw without an embedding."""
        known = cards()
        return [name for name in get_models() if self is CLIP_SAMPLE or known[name].unprompted]

    def methods(self) -> list[str]:
        """Return its samplers: one that adds noise can't be reversed."""
        left_out = STOCHASTIC if self is CFG_MODIFY_IMAGE else ()
        return [method for method in METHODS if method not in left_out]


CFG_WEIGHTS = """Write a prompt's weight after a colon: 'a fox:2'. The default is 3. The network is
evaluated once for each prompt and once without words, and the latter has the weight 1 minus the sum
of the others. A weight of 1 therefore gives the model's own idea of a prompt, a larger one
exaggerates it, 0 ignores the prompt and a negative one leads away from it. The weights of several
prompts add up: two prompts of 1.5 are as strong as one of 3."""

CLIP_SAMPLE = Script(
    "clip_sample",
    1.0,
    {"model": "cc12m_1", "output": "out_{i:05}.png"},
    "Write a prompt's weight after a colon: 'a lighthouse:2' 'fog:-0.5'.",
)
CFG_SAMPLE = Script(
    "cfg_sample",
    3.0,
    {"model": "cc12m_1_cfg", "method": "plms", "steps": 50, "eta": 0.0, "output": "out_{i:05}.png"},
    CFG_WEIGHTS,
)
CFG_MODIFY_IMAGE = Script(
    "cfg_modify_image",
    3.0,
    {"model": "cc12m_1_cfg", "method": "plms", "steps": 50, "output": "out.png"},
    CFG_WEIGHTS,
)
SCRIPTS = {script.name: script for script in (CLIP_SAMPLE, CFG_SAMPLE, CFG_MODIFY_IMAGE)}
