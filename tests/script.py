"""The scripts as processes that need not import PyTorch, which takes longer than what most tests
ask of them: forked from a server that has imported it once, and otherwise as a shell starts them.
"""

import multiprocessing
import os
import runpy
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

ROOT = Path(__file__).parents[1]
IMPORTED = [
    "v_diffusion.run.run",
    "v_diffusion.studio.studio",
    "v_diffusion.images.decode",
    "ftfy",
    "requests",
    "torchvision",
]


def go(script: str, args: list[str], cwd: str, env: Mapping[str, str], streams: list[str]) -> None:
    """Is the script, in a process of its own."""
    for fd, (path, flags) in enumerate(zip(streams, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY))):
        os.dup2(os.open(path, flags), fd)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    warnings.simplefilter("default")
    sys.argv = [script, *args]
    runpy.run_path(script, run_name="__main__")


@dataclass
class Running:
    """A started script."""

    process: multiprocessing.Process
    args: list[str]
    stdout: Path
    stderr: Path

    def wait(self, timeout: float = 600) -> CompletedProcess:
        """What it said and its exit status, once it has ended."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutExpired(self.args, timeout)
        said = self.stdout.read_text(), self.stderr.read_text()
        return CompletedProcess(self.args, self.process.exitcode, *said)


def start(
    *args: object, cwd: Path, stdin: Path | None = None, script: str = "clip_sample.py"
) -> Running:
    """Starts a script of the project's in a folder."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    words = [str(arg) for arg in args]
    folder = Path(tempfile.mkdtemp(prefix="streams"))
    streams = [stdin or Path(os.devnull), folder / "stdout", folder / "stderr"]
    for path in streams[1:]:
        path.touch()
    where = list(map(str, streams))
    task = (str(ROOT / script), words, str(cwd), dict(os.environ), where)
    process = context.Process(target=go, args=task)
    process.start()
    return Running(process, words, *streams[1:])
