"""What several tests need: the golden numbers, the stand-in weights, the script as a process."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

# Before PyTorch is imported, here and in what the tests start: threads that wait in a loop keep
# each other from working where another program takes the cores, and tests take ten times as long.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
# The numbers of the tests are those of a CPU. `python -m benchmark cuda` tries a GPU.
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import pytest
import script
from filelock import FileLock
from PIL import Image

from v_diffusion.shell import program

if TYPE_CHECKING:  # PyTorch is imported by those that need it, which xdist's controller doesn't
    import torch

# Who runs the tests in the background may ignore Ctrl-C; what they start must not inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
DATA = Path(__file__).with_name("data")


def manifest(name: str) -> dict[str, list[int]]:
    return json.loads((DATA / f"{name}.manifest.json").read_text())


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    with np.load(DATA / "golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def later() -> dict[str, np.ndarray]:
    """The golden numbers of the original's later release."""
    with np.load(DATA / "later.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def clip_tiny_tensors() -> "dict[str, torch.Tensor]":
    from standin_weights import state_dict

    return state_dict(manifest("clip_tiny"), half=True)


@contextmanager
def standin(factory: pytest.TempPathFactory, name: str, **how: bool) -> Iterator[Path]:
    """A file of stand-in weights, for all of xdist's workers; who is the last removes it."""
    import torch
    from standin_weights import state_dict

    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path, user = folder / f"{name}.pth", folder / f"{name}.user{os.getpid()}"
    with FileLock(folder / f"{name}.lock"):
        if not path.exists():
            torch.save(state_dict(manifest(name), **how), path)
        user.touch()
    yield path
    with FileLock(folder / f"{name}.lock"):
        user.unlink()
        if not list(folder.glob(f"{name}.user*")):
            path.unlink()


@pytest.fixture(scope="session")
def cc12m_1_file(tmp_path_factory: pytest.TempPathFactory):
    """The stand-in for the published cc12m_1.pth, 2.4 GB."""
    with standin(tmp_path_factory, "cc12m_1") as path:
        yield path


@pytest.fixture(scope="session")
def clip_vit_b_16_file(tmp_path_factory: pytest.TempPathFactory):
    """The stand-in for CLIP ViT-B/16, as a plain state dict."""
    with standin(tmp_path_factory, "clip_vit_b_16", half=True) as path:
        yield path


def levels(path: Path) -> np.ndarray:
    """The grey levels of a picture."""
    return np.asarray(Image.open(path)).astype(int)


def contents(folder: Path) -> dict[str, bytes]:
    """The files in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_gradients_agree(found: "torch.Tensor", expected: "torch.Tensor | np.ndarray") -> None:
    """As far as gradients through ReLU do between kernels: an entry near 0 is rectified or not."""
    expected = np.asarray(expected)
    error = np.abs(found.numpy() - expected) / np.abs(expected).max()
    assert error.max() <= 0.02 and error.mean() <= 1e-3


def run_python(*args: str | Path, cwd: Path, timeout: float = 600) -> subprocess.CompletedProcess:
    """Runs Python with these arguments in a folder, its streams captured as text."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}
    command = [sys.executable, *map(str, args)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture(params=["cc12m_1", "unconditional", "emoji_64", "clip"])
def name(request: pytest.FixtureRequest) -> str:
    """The name of a small network of `networks.make`."""
    return request.param


@pytest.fixture
def model(name: str) -> "torch.nn.Module":
    """The small network of that name."""
    from networks import make

    return make(name)


@pytest.fixture
def clip_sample(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """`clip_sample(*args)` runs the script in the test's own folder."""
    return lambda *args, **options: script.start(*args, cwd=tmp_path, **options).wait()


@pytest.fixture(autouse=True, scope="session")
def freed_memory_is_given_back():
    """A test that draws in this process would leave it the memory of the largest for ever."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "keep_freed_memory", lambda: None)
        yield


@pytest.fixture(autouse=True)
def seed() -> None:
    """Whatever a test draws, it draws the same in any order."""
    import torch

    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
