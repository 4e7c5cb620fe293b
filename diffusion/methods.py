"""Names and properties of the samplers. This module imports no torch."""

from collections.abc import Callable

# The number of evaluations of the model for N times.
EVALUATIONS: dict[str, Callable[[int], int]] = {
    "ddpm": lambda n: n,
    "ddim": lambda n: n,
    "prk": lambda n: 4 * n,
    "plms": lambda n: n + 3 * min(n, 3),
    "pie": lambda n: 2 * n,
    "plms2": lambda n: n + min(n, 1),
    "iplms": lambda n: n,
    "dpmpp_2m": lambda n: n,
    "dpmpp_3m": lambda n: n,
    "dpmpp_2m_sde": lambda n: n,
}
METHODS = tuple(EVALUATIONS)
# The fewest steps from noise to a recognisable picture (docs/samplers.md): unguided, guided by
# CLIP, and with classifier-free guidance. prk, plms and pie, and plms2 in its first step, divide by
# the first alpha, which is near 0. Guidance amplifies their errors, and those of iplms in large
# steps, along with the prompt.
MIN_STEPS = {"prk": 5, "plms": 6, "pie": 5, "plms2": 4}
MIN_STEPS_BY_CLIP = {"prk": 8, "plms": 11, "pie": 10, "plms2": 6, "iplms": 10}
MIN_STEPS_BY_WORDS = {"prk": 8, "plms": 25, "pie": 10, "plms2": 7, "iplms": 18}
# Methods that draw fresh noise in each step by default. The others solve an ODE.
STOCHASTIC = ("ddpm", "dpmpp_2m_sde")
# Methods whose share of fresh noise can be chosen. DDPM is DDIM with all of it.
TAKES_ETA = ("ddim", "dpmpp_2m_sde")
