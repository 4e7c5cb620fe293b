"""What was measured, as text: medians, and ratios with their spread."""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from . import company
from .worker import CHECKPOINTING, COMPILED, OURS, PLAIN

STEPS = 10  # that images per hour are told for


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and in brackets the least and the most."""
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, median, max))
    return f"{middle} ({low}-{high})"


def ratio(ours: Sequence[float], other: Sequence[float]) -> str:
    """How many times as large ours is as the other of the same round."""
    return spread([a / b for a, b in zip(ours, other)])


def seconds(measured: Sequence[dict[str, Any]]) -> list[float]:
    return [one["seconds"] for one in measured]


def peaks(measured: Sequence[dict[str, Any]]) -> list[float] | None:
    """In GB, if the system tells."""
    found = [one["peak"] for one in measured]
    return None if None in found else [peak / 1e9 for peak in found]


def gigabytes(measured: Sequence[dict[str, Any]], digits: int = 2) -> str:
    found = peaks(measured)
    return "not told" if found is None else f"{median(found):.{digits}f} GB"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines] + [""]


def show_machine(of: dict[str, Any], threads: int | None) -> Iterator[str]:
    versions = ", ".join(f"{name} {number}" for name, number in of["versions"].items())
    yield f"{of['cpu']}, {of['cores']} cores, {of['memory'] / 1e9:.0f} GB; {of['system']}"
    kernels = of.get("kernels", "unknown")  # of an older file
    yield f"{versions}; {threads or 'default'} threads; compiled kernels: {kernels}"
    yield ""


def show_start(found: dict[str, Any]) -> Iterator[str]:
    yield f"## Start of {found['model']}, files in the page cache"
    yield ""
    yield f"--help {spread(found['help'])} s, a mistyped option {spread(found['mistake'])} s"
    yield ""
    rows = []
    moments = {"begun": "from the shell to the first step", "ended": "to the end of the first step"}
    for moment, name in moments.items():
        plain, ours = ([one[moment] for one in found[kind]] for kind in (PLAIN, OURS))
        faster = ratio(seconds(plain), seconds(ours))
        times = (f"{spread(seconds(kind))} s" for kind in (plain, ours))
        rows.append([name, *times, f"{faster} times faster"])
        shares = []
        for kind in (plain, ours):
            peak = peaks(kind)
            share = "" if peak is None else f" = {median(peak) * 1e9 / found['weights']:.2f} times"
            shares.append(gigabytes(kind) + share)
        rows.append(["peak of anonymous memory until then", *shares, "the model's weights"])
    yield from table(["", "plain", "ours", ""], rows)


def show_step(found: dict[str, Any]) -> Iterator[str]:
    size = "x".join(map(str, found.get("size", [])))
    yield f"## A step of {found['model']}{size and f', {size}'}"
    yield ""
    limit = median(found["limit"])
    rates = spread([flops / 1e9 for flops in found["limit"]], 0)
    yield f"The limit, a large convolution of PyTorch's: {rates} GFLOP/s. Multiplications that are"
    yield "saved count here, so that more than the limit can be reached."
    yield ""
    rows = []
    for name in ("forward", "guided"):
        gigaflop = found["flops"][name] / 1e9
        for kind, measured in found[name].items():
            times = seconds(measured)
            rate = gigaflop / median(times)
            share = f"{rate * 1e9 / limit:.0%}"
            against = ratio(seconds(found[name][PLAIN]), times)
            row = [f"{name}, {gigaflop:.0f} GFLOP", kind, f"{spread(times)} s", against]
            # A process keeps what its guided steps have freed, so that only their peak is known.
            memory = gigabytes(measured) if name == "guided" else ""
            rows.append([*row, f"{rate:.0f}", share, memory])
    head = ["step", "", "time", "plain / this", "GFLOP/s", "of the limit", "peak memory"]
    yield from table(head, rows)
    first = ", ".join(f"{kind} {spent:.1f} s" for kind, spent in found["first"].items())
    yield f"The first step of a process, which packs or compiles: {first}"
    ours, less = found["guided"][OURS], found["guided"][CHECKPOINTING]
    memory, low, high = "", peaks(less), peaks(ours)
    if low is not None and high is not None:
        memory = f", memory {ratio(low, high)}"
    slower = ratio(seconds(less), seconds(ours))
    yield f"--checkpointing against without, guided: time {slower}{memory}"
    if COMPILED in found["forward"]:
        yield "Compiled, for comparison: the model by torch.compile, in place of our convolutions."
        yield "--compile is for CUDA and leaves steps on a CPU as they are."
    yield ""
    names = list(found["parts"][PLAIN])
    rows = [[kind, *(f"{found['parts'][kind][x]:.2f}" for x in names)] for kind in (PLAIN, OURS)]
    yield from table(["a guided step in seconds", *names], rows)
    for kind, times in found["operators"].items():
        whole = sum(times.values())
        shares = (f"{name.split('::')[-1]} {t / whole:.1%}" for name, t in times.items())
        yield f"A forward by operator, {kind}: {', '.join(shares)}"
    yield ""


def show_batches(found: dict[str, Any]) -> Iterator[str]:
    yield f"## Batches of {found['model']}"
    yield ""
    rows = []
    for size in found["sizes"]:
        row = [f"{size}"]
        for name in ("forward", "guided"):
            step = median(seconds(found[name][str(size)]))
            row += [f"{step:.3g} s", f"{3600 * size / (STEPS * step):.0f}"]
        rows.append([*row, "--checkpointing" if size in found["checkpointing"] else ""])
    head = ["batch", "a step", f"images per hour, {STEPS} steps"]
    head += ["a guided step", f"images per hour, {STEPS} guided steps", ""]
    yield from table(head, rows)


def show_memory(found: dict[str, Any]) -> Iterator[str]:
    yield f"## Memory of {found['model']}, bytes that one more takes, as the cards have it"
    yield ""
    names = ("picture", "guided", "cutout")
    rows = [
        [f"{found[name]:.3g}" for name in names],
        [f"{found['card'][name]:.3g}" for name in names],
    ]
    yield from table(["", *names], [[kind, *row] for kind, row in zip(("measured", "card"), rows)])


def show_company(found: dict[str, Any]) -> Iterator[str]:
    yield f"## Runs of {found['model']} in company"
    yield ""
    rows = []
    for way, times in found["seconds"].items():
        alone = times[company.ALONE]
        others = (
            f"{spread(times[name], 1)} s, {ratio(times[name], alone)} times {company.ALONE}"
            for name in company.SITUATIONS[1:]
        )
        rows.append([way, f"{spread(alone, 1)} s", *others])
    yield from table(["threads wait", *company.SITUATIONS], rows)


def everything(results: dict[str, Any]) -> Iterator[str]:
    """The lines of the whole report."""
    yield from show_machine(results["machine"], results.get("step", {}).get("threads"))
    if "start" in results:
        yield from show_start(results["start"])
    if "step" in results:
        yield from show_step(results["step"])
    for found in results.get("batches", []):
        yield from show_batches(found)
    for found in results.get("memory", []):
        yield from show_memory(found)
    for found in results.get("company", []):
        yield from show_company(found)
