"""A start of the program: how long until its first step, and the memory that loading takes.

As a program it is such a start, ours or the plain one, and ends with the first call of the model.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from . import ROOT, Files
from .memory import Peak

OURS, PLAIN = "ours", "plain"


def seconds(*args: str) -> float:
    """How long the program takes with arguments with which it has little to do."""
    begun = time.monotonic()
    subprocess.run([sys.executable, ROOT / "clip_sample.py", *args], capture_output=True)
    return time.monotonic() - begun


def start(kind: str, files: Files) -> dict[str, Any]:
    """Starts the program anew, in a process of its own.

    Returns:
        Seconds from the shell to the beginning and to the end of the first step, and the peak of
        anonymous memory until then, in bytes, each by `begun` and `ended`.
    """
    begun = time.monotonic()
    command = [sys.executable, "-m", "benchmark.start", kind, *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    moments = json.loads(done.stdout)
    return {
        moment: {"seconds": now - begun, "peak": peak} for moment, (now, peak) in moments.items()
    }


def go_plain() -> None:
    """Makes the program import and load as `plain` does, and give all memory back."""
    import torchvision.transforms  # type: ignore[import-untyped]  # noqa: F401

    from v_diffusion.shell import program
    from v_diffusion.studio import studio

    from . import plain

    replacements: list[tuple[ModuleType, str, Callable[..., Any]]] = [
        (studio, "load_model", lambda name, checkpoint, *_: plain.load_model(name, checkpoint)),
        (studio, "load_clip", lambda path, *_: plain.load_clip(path)),
        (studio, "for_drawing", lambda models, *_: models),
        (program, "keep_freed_memory", lambda: None),
    ]
    for module, name, function in replacements:
        setattr(module, name, function)


def main() -> None:
    kind, name, model, clip = sys.argv[1:]
    files = Files(name, Path(model), Path(clip))
    peak = Peak()
    moments: dict[str, tuple[float, int | None]] = {}

    import clip_sample

    if kind == PLAIN:
        go_plain()
    from torch.nn.modules import module as hooks

    def before(module: Any, *_: Any) -> None:
        if hasattr(module, "min_t") and not moments:
            moments["begun"] = time.monotonic(), peak.so_far()

    def after(module: Any, *_: Any) -> None:
        if hasattr(module, "min_t"):
            moments["ended"] = time.monotonic(), peak.so_far()
            print(json.dumps(moments), flush=True)
            os._exit(0)

    hooks.register_module_forward_pre_hook(before)
    hooks.register_module_forward_hook(after)
    folder = Path(tempfile.gettempdir())
    # Without metadata neither hashes the files, which it would do in the first step.
    options = ["--steps", "1", "-cs", "0", "--device", "cpu", "--no-metadata"]
    options += ["--output", str(folder / "benchmark_start.png")]
    options += ["--model", files.name, "--checkpoint", str(files.model)]
    options += ["--clip-checkpoint", str(files.clip)]
    sys.exit(clip_sample.main(["a red apple", *options]))


if __name__ == "__main__":
    main()
