"""What is measured of a model on the CPU, and printed: starts, steps, batches, memory, company."""

import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from statistics import median

from CLIP.guidance import CUTOUTS
from v_diffusion.compute import bf16
from v_diffusion.shell.console import print_line
from v_diffusion.shell.program import ROUNDS
from v_diffusion.weights import store

from . import HERE, PLAIN, SCRIPT, Files
from .start import MOMENTS, start
from .timing import Taken, in_turn, ratio, run, show, spread, table
from .worker import BF16, CHECKPOINTING, process

GUIDED = {"a step": False, "a guided step": True}
SIZES = {"emoji_64": (1, 2, 4, 8, 16, 31, 32, 64), "cc12m_1": (1, 2, 4)}
STEPS = 10  # that images per hour are told for
# How threads wait: as the program says, and as GCC's OpenMP runtime does by itself.
WAITING = (("briefly", str(ROUNDS)), ("as usual", "300000"))
ALONE, TWO, BUSY = "alone", "two at once", "beside a busy loop"


def starts(files: Files, args: Namespace) -> None:
    """Measure `--help`, a mistyped option, and starts up to the first step."""
    for path in files[1:]:
        path.read_bytes()  # so that it is in the page cache
    quick = {"--help": partial(run, [SCRIPT, "--help"])}
    quick["a mistyped option"] = partial(run, [SCRIPT, "--stesp", "5"], status=2)
    found = {task: {HERE: times} for task, times in in_turn(quick, args.rounds).items()}
    begun = in_turn({way: partial(start, way, files) for way in (PLAIN, HERE)}, args.rounds)
    for moment in MOMENTS:
        found[moment] = {way: [one[moment] for one in each] for way, each in begun.items()}
    show(f"Start of {files.name}", found)


def compare(files: Files, args: Namespace, *ways: str) -> dict[str, dict[str, list[Taken]]]:
    """Measure a step, unguided and guided, of each way in turn."""
    found: dict[str, dict[str, list[Taken]]] = {}
    with ExitStack() as stack:
        processes = {way: stack.enter_context(process(way)) for way in ways}
        for name, guided in GUIDED.items():
            tasks = {
                way: partial(step, files, guided, size=args.size) for way, step in processes.items()
            }
            first = in_turn(tasks, 1)  # packs
            if not guided:
                found["the first step"] = first
            found[name] = in_turn(tasks, args.rounds)
    return found


def steps(files: Files, args: Namespace) -> None:
    """Measure steps beside the plain way's."""
    found = compare(files, args, PLAIN, HERE, CHECKPOINTING)
    show(f"A step of {files.name}", found)
    guided = found["a guided step"]
    slower = ratio(guided[CHECKPOINTING], guided[HERE])
    print_line(f"{CHECKPOINTING} takes {slower} times as long as without, guided.\n")


def precision(files: Files, args: Namespace) -> None:
    """Measure steps in fp32 and bf16."""
    has = [name for name in ("amx_tile", "avx512_bf16") if bf16.has(name)]
    print_line(f"The processor has {' and '.join(has) or 'no instructions for bf16'}.\n")
    show(f"Precisions of {files.name}", compare(files, args, HERE, BF16))


def batches(files: Files, args: Namespace) -> None:
    """Measure a step of each batch size."""
    rows = []
    with process(HERE) as step:
        for size in SIZES[files.name][: 2 if args.short else None]:
            row = [str(size)]
            for guided in GUIDED.values():
                step(files, guided, size)  # packs
                task = {f"batches of {size}": partial(step, files, guided, size)}
                (measured,) = in_turn(task, args.rounds).values()
                times = [one.seconds for one in measured]
                row += [f"{spread(times)} s", f"{3600 * size / (STEPS * median(times)):.0f}"]
            rows.append(row)
    an_hour = f"images per hour, {STEPS} steps"
    table(f"Batches of {files.name}", ["batch", *[n for x in GUIDED for n in (x, an_hour)]], rows)


def memory(files: Files, args: Namespace) -> None:
    """Measure the bytes that one more picture takes, and one more cutout of a guided one.

    They are differences of the peaks of two batches; the first one also packs the weights.
    """
    few, many = (8, 32) if files.name == "emoji_64" and not args.short else (1, 2)

    def each(guided: bool, cutouts: int = CUTOUTS) -> float:
        with process(HERE) as step:
            peaks = [step(files, guided, n, cutouts=cutouts).peak for n in (few, few, many)]
        return (peaks[-1] - peaks[-2]) / (many - few)

    guided, more = each(True), each(True, 2 * CUTOUTS)
    cutout = (more - guided) / CUTOUTS
    found = {"picture": each(False), "guided": guided - CUTOUTS * cutout, "cutout": cutout}
    card = store.cards()[files.name]
    told = {**card.memory, **store.cards()[str(card.clip)].memory}
    rows = [
        [name, *(f"{numbers[x]:.3g}" for x in found)]
        for name, numbers in (("measured", found), ("card", told))
    ]
    title = f"Memory of {files.name}, bytes that one more takes, as the cards have it"
    table(title, ["", *found], rows)


def company(files: Files, args: Namespace) -> None:
    """Measure whole runs alone, two at once, and beside a program that is always busy."""
    options = ["--steps", "2", "-cs", "0", "--no-metadata"]
    if files.name == "emoji_64" and not args.short:
        options = ["-n", "8", "--steps", "20"]
    command = [SCRIPT, "a fox", "--device", "cpu", *files.options, *options]

    def beside(waiting: str) -> Taken:
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as loop:
            try:
                return run(command, spins=waiting)
            finally:
                loop.kill()

    alone, rows = [], []
    for name, waiting in WAITING[: 1 if args.short else None]:
        tasks = {n: partial(run, command, m, spins=waiting) for n, m in ((ALONE, 1), (TWO, 2))}
        found = in_turn({**tasks, BUSY: partial(beside, waiting)}, args.rounds)
        alone.append(found[ALONE])
        times = (f"{spread([one.seconds for one in each])} s" for each in found.values())
        rows.append([name, *times, *(ratio(found[x], found[ALONE]) for x in (TWO, BUSY))])
    head = ["threads wait", ALONE, TWO, BUSY, f"{TWO} / {ALONE}", f"busy / {ALONE}"]
    table(f"Runs of {files.name} in company", head, rows)
    print_line(f"Alone, briefly / as usual: {ratio(alone[0], alone[-1])}\n")


PARTS: dict[str, Callable[[Files, Namespace], None]] = {
    "start": starts,
    "step": steps,
    "batches": batches,
    "memory": memory,
    "company": company,
    "precision": precision,
}
