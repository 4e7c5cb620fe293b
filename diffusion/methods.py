"""The samplers' names, and what a program has to know of each. Importing this imports no torch."""

from collections.abc import Callable

# How often a method of N times asks the model.
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
# Those that divide by the first alpha, which is close to 0, and how many steps from noise it takes
# until their pictures show anything (docs/samplers.md): unguided, guided by CLIP, and
# classifier-free, which drives their errors on as it does the words.
MIN_STEPS = {"prk": 5, "plms": 6, "pie": 5}
MIN_STEPS_BY_CLIP = {"prk": 8, "plms": 11, "pie": 10}
MIN_STEPS_BY_WORDS = {"prk": 8, "plms": 25, "pie": 10}
# Those that draw fresh noise in each step unless told otherwise. The others solve an ODE.
STOCHASTIC = ("ddpm", "dpmpp_2m_sde")
# Those whose share of fresh noise can be chosen. DDPM is DDIM with all of it.
TAKES_ETA = ("ddim", "dpmpp_2m_sde")
