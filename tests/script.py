"""The scripts as processes that need not import PyTorch, which takes longer than what most tests
ask of them: forked from a server that has imported it once, and otherwise as a shell starts them.
"""

import multiprocessing
import os
import runpy
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from unittest import mock

ROOT = Path(__file__).parents[1]
ENVIRONMENT = dict(os.environ)


def go(
    code: str, script: str, args: list[str], cwd: str, env: Mapping[str, str], streams: list[str]
) -> None:
    """Is the code and then the script, in a process of its own."""
    for fd, path in enumerate(streams):
        os.dup2(os.open(path, (os.O_WRONLY if fd else os.O_RDONLY) | os.O_NOCTTY), fd)
    sys.stdin = open(0, closefd=False)  # multiprocessing's is empty
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    warnings.simplefilter("default")
    sys.argv = [script, *args]
    exec(code, {})
    if script:
        runpy.run_path(str(ROOT / script), run_name="__main__")


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

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Waits for something that it does."""
        while not condition():
            assert self.process.is_alive(), self.stderr.read_text()
            time.sleep(0.002)

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def wait(self, timeout: float = 600) -> CompletedProcess:
        """What it said and its exit status, once it has ended."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutExpired(self.args, timeout)
        said = (path.read_text() if path.is_file() else "" for path in (self.stdout, self.stderr))
        return CompletedProcess(self.args, self.process.exitcode, *said)


def start(
    *args: object,
    cwd: Path,
    script: str = "clip_sample.py",
    code: str = "",
    stdin: str | Path = os.devnull,
    stdout: str | Path = "",
    stderr: str | Path = "",
) -> Running:
    """Starts a script of the project's in a folder.

    Args:
        script: its name. With none the code is all there is.
        code: runs before it.
        stdin, stdout, stderr: where they lead, by default to nothing and to files of their own.
    """
    words = [str(arg) for arg in args]
    folder = Path(tempfile.mkdtemp(prefix="streams"))
    outputs = [Path(stdout or folder / "stdout"), Path(stderr or folder / "stderr")]
    for path in outputs:
        path.touch()
    streams = list(map(str, [stdin, *outputs]))
    task = (code, script, words, str(cwd), dict(os.environ), streams)
    process = server().Process(target=go, args=task)
    process.start()
    return Running(process, words, *outputs)
