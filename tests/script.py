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
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from unittest import mock

ROOT = Path(__file__).parents[1]
ENVIRONMENT = dict(os.environ)


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


@cache
def server() -> ForkServerContext:
    """Starts the server, in the environment that the tests began in, wherever they are now."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["imported"])
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    with mock.patch.dict(os.environ, ENVIRONMENT | {"PYTHONPATH": paths}, clear=True):
        forkserver.ensure_running()
    return context


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
    words = [str(arg) for arg in args]
    folder = Path(tempfile.mkdtemp(prefix="streams"))
    streams = [stdin or Path(os.devnull), folder / "stdout", folder / "stderr"]
    for path in streams[1:]:
        path.touch()
    where = list(map(str, streams))
    task = (str(ROOT / script), words, str(cwd), dict(os.environ), where)
    process = server().Process(target=go, args=task)
    process.start()
    return Running(process, words, *streams[1:])
