"""How good the pictures of emoji_64 are, by method and by evaluations of the model.

Each method draws the same prompts from the same noise with as many steps as its evaluations allow.
What is measured of each picture: its distance (root mean square of the difference, the picture in
-1 to 1) to the converged solution of the ODE from that noise, and the two accuracies of the model's
card: the nearest training picture is the one asked for; CLIP ranks its name first among all names.

It takes hours. Every finished piece is a line in a file, and the next run goes on from there, and
prints a table in the end: `python -m benchmark.methods --guidance 0 --chunks 5`.
"""

import argparse
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from torch import Tensor

from diffusion.methods import EVALUATIONS, METHODS
from training import data, evaluate
from training.clip import embed_texts
from v_diffusion.studio.sample import sample
from v_diffusion.studio.targets import Targets

from . import STATE
from .timing import table

BUDGETS = (5, 10, 15, 20, 30, 50, 100, 250, 1000)
CHUNK = 12  # prompts at a time
# Beyond this many evaluations the solvers of the ODE differ little from each other: only the first
# few prompts are drawn.
MANY, FEW = 50, 2
# The converged solution. Its number of steps is nobody else's, so that guidance, which looks at
# random cutouts, sees others here at every time.
REFERENCE, REFERENCE_STEPS = "dpmpp_3m", 400


class Prompt(NamedTuple):
    text: str
    wanted: str  # the name of the picture asked for
    seed: int


class Piece(NamedTuple):
    """One thing to measure: prompts first to last - 1 by a method within a budget."""

    method: str
    budget: int
    first: int
    last: int


def prompts() -> list[Prompt]:
    """All prompts of the card: each name, and then its paraphrase; spread over the alphabet."""
    pairs = sorted(data.paraphrases().items())
    stride = 89  # coprime to their number, so that the first few are of many kinds
    spread = [pairs[i * stride % len(pairs)] for i in range(len(pairs))]
    texts = [(text, pair[0]) for pair in spread for text in pair]
    return [Prompt(text, wanted, seed) for seed, (text, wanted) in enumerate(texts)]


def steps_within(method: str, budget: int) -> int:
    """The most steps of a method that ask the model at most `budget` times; 1 at least."""
    return max((n for n in range(1, budget + 1) if EVALUATIONS[method](n) <= budget), default=1)


def pieces(chunks: int) -> Iterator[Piece]:
    """Everything to measure, what matters most first."""
    every = [(method, budget) for budget in BUDGETS for method in METHODS]
    for first in range(0, chunks * CHUNK, CHUNK):
        whole = (pair for pair in every if pair[1] <= MANY or pair[0] == "ddpm")
        yield from (Piece(*pair, first, first + CHUNK) for pair in whole)
    yield from (Piece(m, budget, 0, FEW) for m, budget in every if budget > MANY and m != "ddpm")


def measure(guidance: float, chunks: int, path: Path) -> None:
    """Measure what isn't measured yet: a line of JSON in a file for each piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else []
    done = {Piece(*(json.loads(line)[name] for name in Piece._fields)) for line in lines}
    models = evaluate.load()
    judge, everything = evaluate.Judge(models.clip, data.load()), prompts()

    def draw(asked: list[Prompt], method: str, steps: int) -> Tensor:
        texts, seeds = [prompt.text for prompt in asked], [prompt.seed for prompt in asked]
        jobs = evaluate.jobs(texts, guidance, seeds, steps, method=method)
        return sample(jobs, models, Targets(embed_texts(models.clip, texts)), evaluate.CPU)

    @cache
    def converged(first: int) -> Tensor:
        return draw(everything[first : first + CHUNK], REFERENCE, REFERENCE_STEPS)

    for piece in pieces(chunks):
        if piece in done:
            continue
        asked = everything[piece.first : piece.last]
        steps = steps_within(piece.method, piece.budget)
        drawn = draw(asked, piece.method, steps)
        off = drawn - converged(piece.first)[: len(asked)]
        near, ranked = judge((drawn.clamp(-1, 1) + 1) / 2, [prompt.wanted for prompt in asked])
        line = {
            **piece._asdict(),
            "steps": steps,
            "distance": off.pow(2).mean((1, 2, 3)).sqrt().tolist(),
            "nearest": near.tolist(),
            "ranked": ranked.tolist(),
        }
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def report(path: Path) -> None:
    """Print a table of what a file has: a method a row, a budget a column, and in each cell the
    distance and the two accuracies in %, means over the prompts.
    """
    found: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    for line in path.read_text().splitlines():
        piece = json.loads(line)
        rows = found.setdefault((piece["method"], piece["budget"]), [])
        rows += zip(piece["distance"], piece["nearest"], piece["ranked"])
    most = max(map(len, found.values()))

    def cell(method: str, budget: int) -> str:
        if not (rows := found.get((method, budget))):
            return ""
        distance, near, ranked = map(fmean, zip(*rows))
        few = f" ({len(rows)})" if len(rows) < most else ""
        return f"{distance:.3g} {100 * near:.0f}/{100 * ranked:.0f}{few}"

    lines = [[f"`{method}`", *(cell(method, budget) for budget in BUDGETS)] for method in METHODS]
    table(f"{most} prompts", ["evaluations", *map(str, BUDGETS)], lines)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--guidance", type=float, default=0.0, help="the scale (default: 0)")
    p.add_argument("--chunks", type=int, default=1, help=f"times {CHUNK} prompts (default: 1)")
    args = p.parse_args()
    path = STATE / f"methods_{args.guidance:g}.jsonl"
    measure(args.guidance, args.chunks, path)
    report(path)


if __name__ == "__main__":
    main()
