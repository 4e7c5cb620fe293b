"""Proves the program on a GPU: `python -m benchmark cuda`.

It makes the stand-in weights that the tests have, draws what the original drew with them, compares
numbers and pictures, and then measures speed beside the original's way (`speed`). It takes six
minutes on an H100. With --dry it does what it can with small models on a CPU: does it run?
"""

import argparse
import gc
import json
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from v_diffusion.shell.console import Parser

from .. import STATE
from . import right, speed
from .bench import Bench, Figures, Numbers

PARTS: dict[str, Callable[[Bench], Figures]] = {
    "card": speed.card,
    "samplers": right.samplers,
    **{
        f"{name}, {precision}": partial(part, precision=precision)
        for precision in ("fp16", "fp32")
        for name, part in right.BY_PRECISION.items()
    },
    "steps": speed.steps,
    "images": speed.images,
    "waits": speed.waits,
    "kernels": speed.kernels,
    "starts": speed.starts,
    "compiled": speed.compiled,
}


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(one)}" for key, one in value.items())
    return str(value)


def main(argv: list[str]) -> int:
    p = Parser(
        prog="python -m benchmark cuda",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("parts", nargs="*", metavar="PART", help="whose names begin so (all)")
    p.add_argument("--out", type=Path, default=STATE / "cuda.json", metavar="FILE")
    p.add_argument("--dry", action="store_true", help="small models on a CPU: does it run?")
    args = p.parse_args(argv)
    if not (args.dry or torch.cuda.is_available()):
        p.error("no CUDA device is here; use --dry")
    bench = Bench(torch.device("cpu" if args.dry else "cuda:0"), args.dry)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    results: Numbers = {}
    failed, begun = False, time.monotonic()
    for name, part in PARTS.items():
        if not name.startswith(tuple(args.parts or [""])) or (args.dry and "fp32" in name):
            continue
        print(f"[{time.monotonic() - begun:.0f} s] {name}", flush=True)
        figures = results[name] = {}
        try:
            for key, value in part(bench):
                figures[key] = value
                print(f"  {key}: {shown(value)}", flush=True)
        except Exception as error:  # the other parts are worth having
            failed = True
            figures["error"] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
            traceback.clear_frames(error.__traceback__)  # which hold what takes the memory
        gc.collect()  # models that are replaced in part refer to themselves
        torch.cuda.empty_cache()
        args.out.write_text(json.dumps(results, indent=1) + "\n")
    print(f"[{time.monotonic() - begun:.0f} s] written: {args.out}")
    return int(failed)
