"""What numbers there may be, as an option and from Python."""

from collections.abc import Callable
from typing import Any

from ..shell.program import number, whole_number

LAST_SEED = 2**64 - 1
MOST_STEPS = 10**6
MOST_CUTOUTS = 2**16
LONGEST_SIDE = 2**15
LARGEST = 3.4e38  # that fp32 holds
NUMBERS: dict[str, Callable[[str], Any]] = {
    "clip_guidance_scale": number(),
    "cut_pow": number(0, 1000),
    "cutn": whole_number(1, MOST_CUTOUTS),
    "eta": number(0, 1),
    "max_timestep": number(0, 1),
    "seed": whole_number(0, LAST_SEED),
    "starting_timestep": number(0, 1),
    "steps": whole_number(1, MOST_STEPS),
}
SIDE = whole_number(1, LONGEST_SIDE)
