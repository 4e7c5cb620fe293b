"""What `benchmark.methods` has found, as tables and as a plot.

`python -m benchmark.report` writes benchmark/results/methods.md and methods.png, and prints the
tables that the README has.
"""

import json
import sys
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from diffusion.methods import METHODS

RESULTS = Path(__file__).with_name("results")
GUIDANCE = {0: "unguided", 50: "guided"}
BRIEF = (5, 10, 15, 20, 30, 50)  # the README's budgets


class Figures(NamedTuple):
    """Of a method within a budget: means over the prompts."""

    distance: float  # root mean square to the converged solution, the picture in -1 to 1
    nearest: float  # the share of prompts whose nearest training picture is the one asked for
    ranked: float  # the share of prompts whose name CLIP ranks first
    prompts: int  # how many


def load(guidance: int, folder: Path = RESULTS) -> dict[str, dict[int, Figures]]:
    """By method and budget, everything that was measured with a guidance scale."""
    pieces: defaultdict[tuple[str, int], list[tuple[float, ...]]] = defaultdict(list)
    for line in (folder / f"methods_{guidance}.jsonl").read_text().splitlines():
        piece = json.loads(line)
        figures = zip(piece["distance"], piece["nearest"], piece["ranked"])
        pieces[piece["method"], piece["budget"]] += figures
    found: dict[str, dict[int, Figures]] = {method: {} for method in METHODS}
    for (method, budget), rows in sorted(pieces.items()):
        distance, nearest, ranked = map(fmean, zip(*rows))
        found[method][budget] = Figures(distance, nearest, ranked, len(rows))
    return found


def cell(figures: Figures, with_distance: bool) -> str:
    shares = f"{figures.nearest:.0%}/{figures.ranked:.0%}".replace("%", "")
    return f"{figures.distance:.3g} {shares}" if with_distance else shares


def table(guidance: int, budgets: tuple[int, ...] | None = None) -> list[str]:
    """The lines of a Markdown table: a method a row, a budget a column.

    Args:
        budgets: these, and accuracies alone; by default all, with the distance and the number of
            prompts where that is below the most.
    """
    found = load(guidance)
    most = max(figures.prompts for row in found.values() for figures in row.values())
    columns = budgets or tuple(sorted({budget for row in found.values() for budget in row}))
    head = [f"{GUIDANCE[guidance]}, {most} prompts", *columns]
    lines: list[list[object]] = [head, ["---"] * (len(columns) + 1)]
    for method, row in found.items():
        cells = []
        for budget in columns:
            figures = row[budget]
            few = f" ({figures.prompts})" if not budgets and figures.prompts < most else ""
            cells.append(cell(figures, not budgets) + few)
        lines.append([f"`{method}`", *cells])
    return [f"| {' | '.join(map(str, line))} |" for line in lines]


def tables(budgets: tuple[int, ...] | None = None) -> str:
    """`table` unguided and guided, as text."""
    return "\n\n".join("\n".join(table(guidance, budgets)) for guidance in GUIDANCE)


def document() -> str:
    """What methods.md says."""
    return f"""# emoji_64: every sampler, every budget of evaluations

Distance to the converged solution, then the shares in % of prompts whose nearest training picture
is the one asked for / whose name CLIP ranks first; in brackets the prompts, where they are fewer.

{tables()}
"""


def plot(path: Path) -> None:
    """Distance and accuracies against evaluations, unguided and guided."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7.5), sharex=True, layout="constrained")
    titles = ("distance to the converged solution", "nearest picture, %", "CLIP's first, %")
    for row, (guidance, name) in zip(axes, GUIDANCE.items()):
        found = load(guidance)
        most = max(f.prompts for by_budget in found.values() for f in by_budget.values())
        for i, (axis, title) in enumerate(zip(row, titles)):
            for j, (method, by_budget) in enumerate(found.items()):
                # A share of a few prompts says nothing beside one of all.
                known = {b: f for b, f in by_budget.items() if i == 0 or f.prompts == most}
                values = [f[i] * (100 if i else 1) for f in known.values()]
                style = {"marker": "os^vD"[j % 5], "linestyle": "-" if j < 5 else "--"}
                axis.plot(list(known), values, label=method, markersize=4, linewidth=1, **style)
            axis.set(xscale="log", title=f"{name}: {title}", xlabel="evaluations of the model")
            axis.grid(alpha=0.3)
            if i == 0:
                axis.set(yscale="log", ylim=(0.8e-3, 3))
    axes[0, 1].legend(ncols=2, fontsize="small")
    figure.savefig(path, dpi=80, metadata={"Software": None})


def main() -> None:
    if find_spec("matplotlib") is None:
        print("benchmark.report: pip install -r benchmark/requirements.txt", file=sys.stderr)
        sys.exit(2)
    plot(RESULTS / "methods.png")
    (RESULTS / "methods.md").write_text(document())
    print(tables(BRIEF))


if __name__ == "__main__":
    main()
