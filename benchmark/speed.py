"""What is timed: starts, steps and batches. Each gives plain numbers, those of every round."""

import json
import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from CLIP import guidance
from CLIP import model as clip
from diffusion import get_model
from v_diffusion.weights import store

from . import Files, start
from .worker import CHECKPOINTING, COMPILED, OURS, PLAIN, Size, Worker

Numbers = dict[str, Any]


def note(what: str) -> None:
    tqdm.write(what, sys.stderr)


def read_all(files: Files) -> int:
    """Reads the model's file and CLIP's, so that they are in the page cache; the bytes of both."""
    total = 0
    for path in (files.model, files.clip):
        with open(path, "rb") as file:
            while part := file.read(1 << 24):
                total += len(part)
    return total


def starts(files: Files, rounds: int) -> Numbers:
    """`--help` and a mistyped option, and starts up to the first step."""
    read_all(files)
    found: Numbers = {"model": files.name, "weights": files.model.stat().st_size}
    found |= {name: [] for name in ("help", "mistake", PLAIN, OURS)}
    for i in range(rounds):
        note(f"start, round {i + 1} of {rounds}")
        found["help"].append(start.seconds("--help"))
        found["mistake"].append(start.seconds("--stesp", "5"))
        found[PLAIN].append(start.start(PLAIN, files))
        found[OURS].append(start.start(OURS, files))
    return found


def count_flops(files: Files, size: Size | None) -> dict[str, int]:
    """The floating point operations of a step, unguided and guided.

    The gradient to the input of a convolution or product, the only one that guidance needs, takes
    as many as the layer itself; that attention's takes more is left out.
    """
    state_dict = torch.load(files.clip, map_location="meta", weights_only=True)
    with torch.device("meta"):
        model = get_model(files.name)()
        clip_model = clip.CLIP(**clip.dimensions(state_dict))
        shape = model.shape if size is None else (3, *size[::-1])
        x, embed = torch.empty(1, *shape), torch.empty(1, clip_model.visual.output_dim)
        resolution = clip_model.visual.input_resolution
        cutouts = torch.empty(guidance.CUTOUTS, 3, resolution, resolution)
    counts = []
    for call in (lambda: model(x, x[:, 0, 0, 0], embed), lambda: clip_model.encode_image(cutouts)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            call()
        counts.append(counter.get_total_flops())
    return {"forward": counts[0], "guided": 2 * sum(counts)}


def load(
    kinds: Iterable[str], files: Files, size: Size | None = None
) -> tuple[dict[str, Worker], int]:
    """Configurations, ready to be timed, and the threads that each computes with."""
    note(f"loading {files.name}")
    workers = {kind: Worker(kind, files, size) for kind in kinds}
    return workers, max([worker("threads") for worker in workers.values()])


def steps(files: Files, rounds: int, compiled: bool, size: Size | None = None) -> Numbers:
    """A step unguided and guided, in every configuration, in turn."""
    kinds = [PLAIN, OURS, *[COMPILED] * compiled, CHECKPOINTING]
    workers, threads = load(kinds, files, size)
    guided_kinds = [PLAIN, OURS, CHECKPOINTING]
    found: Numbers = {"model": files.name, "flops": count_flops(files, size), "limit": []}
    found |= {} if size is None else {"size": list(size)}
    note("step: the first of each, which packs or compiles")
    found["first"] = {kind: worker("step", False)["seconds"] for kind, worker in workers.items()}
    for kind in guided_kinds:
        workers[kind]("step", True)
    found["forward"] = {kind: [] for kind in kinds if kind != CHECKPOINTING}
    found["guided"] = {kind: [] for kind in guided_kinds}
    for i in range(rounds):
        note(f"step, round {i + 1} of {rounds}")
        found["limit"].append(workers[OURS]("limit"))
        for guided, name in ((False, "forward"), (True, "guided")):
            for kind, measured in found[name].items():
                measured.append(workers[kind]("step", guided))
    found["parts"] = {kind: workers[kind]("parts") for kind in (PLAIN, OURS)}
    found["operators"] = {kind: workers[kind]("operators") for kind in (PLAIN, OURS)}
    found["threads"] = threads
    for worker in workers.values():
        worker.close()
    return found


def batches(files: Files, sizes: Iterable[int], rounds: int, room: float) -> Numbers:
    """A step of each batch size; with checkpointing where guiding would take more than `room`.

    Args:
        room: the most bytes that a process may take.
    """
    workers, _ = load([OURS], files)
    before, one = (workers[OURS]("step", guided)["peak"] for guided in (False, True))
    if None in (before, one):
        before = one = 0
    fits = {size: before + (one - before) * size <= room for size in sizes}
    found: Numbers = {"model": files.name, "sizes": list(sizes)}
    found["checkpointing"] = [size for size, does in fits.items() if not does]
    found |= {"forward": {size: [] for size in sizes}, "guided": {size: [] for size in sizes}}
    for kind, with_this in ((OURS, True), (CHECKPOINTING, False)):
        some = [size for size, does in fits.items() if does is with_this]
        # One at a time: large batches leave no room for another process.
        if some and kind not in workers:
            workers, _ = load([kind], files)
        for i in range(rounds):
            for size in some:
                note(f"batches of {size}, round {i + 1} of {rounds}")
                workers[kind]("step", False, size)  # packs
                for guided, name in ((False, "forward"), (True, "guided")):
                    found[name][size].append(workers[kind]("step", guided, size))
        if kind in workers:
            workers[kind].close()
    as_in_file: Numbers = json.loads(json.dumps(found))  # the keys as a file has them
    return as_in_file


def memory(files: Files) -> Numbers:
    """Measure the bytes that one more picture takes, and one more cutout of a guided one.

    They are differences of the peaks of two batches; the first one also packs the weights.
    """
    few, many = (8, 32) if files.name == "emoji_64" else (1, 2)

    def each(guided: bool, cutouts: int = guidance.CUTOUTS) -> float:
        worker = Worker(OURS, files)
        peaks = [worker("step", guided, size, cutouts)["peak"] or 0 for size in (few, few, many)]
        worker.close()
        difference: float = peaks[-1] - peaks[-2]
        return difference / (many - few)

    note(f"memory of {files.name}")
    guided, more = each(True), each(True, 2 * guidance.CUTOUTS)
    cutout = (more - guided) / guidance.CUTOUTS
    card = store.cards()[files.name]
    numbers = {**card.memory, **store.cards()[str(card.clip)].memory}
    found: Numbers = {"model": files.name, "card": numbers, "picture": each(False)}
    return {**found, "guided": guided - guidance.CUTOUTS * cutout, "cutout": cutout}
