"""What several tests need: the golden numbers, the stand-in weights, the script as a process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from standin_weights import state_dict

ROOT = Path(__file__).parents[1]
DATA = Path(__file__).with_name("data")


def manifest(name: str) -> dict[str, list[int]]:
    return json.loads((DATA / f"{name}.manifest.json").read_text())


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    with np.load(DATA / "golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def clip_tiny_tensors() -> dict[str, torch.Tensor]:
    return state_dict(manifest("clip_tiny"), half=True)


@pytest.fixture(scope="session")
def cc12m_1_file(tmp_path_factory: pytest.TempPathFactory):
    """The stand-in for the published cc12m_1.pth, 2.4 GB."""
    path = tmp_path_factory.mktemp("cc12m_1") / "cc12m_1.pth"
    torch.save(state_dict(manifest("cc12m_1")), path)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def clip_vit_b_16_file(tmp_path_factory: pytest.TempPathFactory):
    """The stand-in for CLIP ViT-B/16, as a plain state dict."""
    path = tmp_path_factory.mktemp("clip") / "vit_b_16.pth"
    torch.save(state_dict(manifest("clip_vit_b_16"), half=True), path)
    yield path
    path.unlink()


def run_python(*args: str | Path, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess:
    """Runs Python with these arguments in a folder, its streams captured as text."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}
    command = [sys.executable, *map(str, args)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture
def clip_sample(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """`clip_sample(*args)` runs the script in the test's own folder."""
    return lambda *args, **options: run_python(
        ROOT / "clip_sample.py", *args, cwd=tmp_path, **options
    )
