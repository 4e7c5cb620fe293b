"""A start of the program: how long until its first step, and the memory that loading takes.

As a program it is such a start, ours or the plain one, and ends with the first call of the model.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import PLAIN, ROOT, Files
from .timing import Peak, Taken

MOMENTS = ("from the shell to the first step", "to the end of the first step")


def start(way: str, files: Files) -> dict[str, Taken]:
    """Return what the program, started anew, takes until each of `MOMENTS`."""
    # Without metadata neither hashes the files, which it would do in the first step.
    options = ["--steps", "1", "-cs", "0", "--no-metadata", "--device", "cpu", *files.options]
    options += ["--output", str(Path(tempfile.gettempdir()) / "benchmark_start.png")]
    begun = time.monotonic()
    command = [sys.executable, "-m", "benchmark.start", way, "a red apple", *options]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    moments = zip(MOMENTS, json.loads(done.stdout))
    return {name: Taken(now - begun, peak) for name, (now, peak) in moments}


def go_plain() -> None:
    """Make the program import and load as `plain` does, and give all memory back."""
    import torchvision.transforms  # type: ignore[import-untyped]  # noqa: F401

    from v_diffusion.shell import program
    from v_diffusion.studio import studio as rooms

    from . import plain

    studio: Any = rooms
    studio.load_model = lambda name, checkpoint, *_: plain.load_model(name, checkpoint)
    studio.load_clip = lambda path, *_: plain.load_clip(path)
    studio.for_drawing = lambda models, *_: models
    program.keep_freed_memory = lambda: None


def main() -> None:
    way, *argv = sys.argv[1:]
    peak = Peak()
    moments: list[tuple[float, int]] = []

    import clip_sample

    if way == PLAIN:
        go_plain()
    from torch.nn.modules import module as hooks

    def tell(module: Any, *_: Any) -> None:
        if hasattr(module, "min_t"):
            moments.append((time.monotonic(), peak.so_far()))
            if len(moments) == len(MOMENTS):
                print(json.dumps(moments), flush=True)
                os._exit(0)

    hooks.register_module_forward_pre_hook(tell)
    hooks.register_module_forward_hook(tell)
    sys.exit(clip_sample.main(argv))


if __name__ == "__main__":
    main()
