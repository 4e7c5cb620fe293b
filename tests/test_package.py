"""What pip makes of it: a wheel, installed elsewhere, run from another folder."""

import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, run_python
from PIL import Image

from v_diffusion.version import __version__

PACKAGES = ("CLIP", "diffusion", "v_diffusion")
TOP = (
    "pyproject.toml",
    "requirements.txt",
    "README.md",
    "LICENSE",
    "clip_sample.py",
    "make_grid.py",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of a copy of the checkout, so that nothing is built into the checkout itself."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in TOP:
        shutil.copy(ROOT / name, copy)
    for name in (*PACKAGES, "checkpoints", "training"):
        shutil.copytree(
            ROOT / name, copy / name, ignore=shutil.ignore_patterns("state", "__pycache__")
        )
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-q", "-w", out]
    done = run_python("-m", "pip", "wheel", *options, copy, cwd=out)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """An environment with the wheel alone in it; what it needs is that of the tests' own."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    own = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "tests.pth").write_text("\n".join([*own, *site.getsitepackages()]) + "\n")
    options = ["-q", "install", "--no-compile", "--no-deps", "--no-index", wheel]
    python = folder / "bin" / "python"
    pip = ["-m", "pip", "--python", python, "--disable-pip-version-check", *options]
    done = run_python(*pip, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def run(program: Path, *args: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    return subprocess.run(
        [program, *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=600
    )


def test_the_wheel_has_the_program_and_the_shipped_model_and_no_more(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    info = f"v_diffusion-{__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {
        *PACKAGES, "clip_sample.py", "make_grid.py", info
    }  # fmt: skip
    for name in (
        *(f"{package}/py.typed" for package in PACKAGES),
        "v_diffusion/checkpoints/cards.json",
        "v_diffusion/checkpoints/emoji_64.json",
        "v_diffusion/checkpoints/emoji_64.pth",
        "v_diffusion/checkpoints/emoji_64_clip.pth",
        "CLIP/bpe_simple_vocab_16e6.txt.gz",
        f"{info}/licenses/LICENSE",
        f"{info}/licenses/CLIP/bpe_simple_vocab_16e6.LICENSE",
    ):
        assert name in names
    text = zipfile.ZipFile(wheel).read(f"{info}/METADATA").decode()
    needed = (ROOT / "requirements.txt").read_text().split()
    assert [
        line.partition(": ")[2] for line in text.splitlines() if "Requires-Dist" in line
    ] == needed


def test_the_command_draws_from_another_folder(installed, tmp_path):
    options = ("--model", "emoji_64", "--device", "cpu", "--steps", "2")
    program = installed / "bin" / "clip-sample"
    # Or it would compile kernels for this folder and leave them in the user's cache.
    done = run(program, "red apple", *options, cwd=tmp_path, NUMBA_DISABLE_JIT="1")
    assert (done.returncode, done.stdout) == (0, "out_00000.png\n"), done.stderr
    assert Image.open(tmp_path / "out_00000.png").size == (64, 64)
    done = run(program, "a", "--steps", "0", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("clip-sample: argument --steps: ")


def test_weights_are_looked_for_where_a_user_may_write(installed, tmp_path):
    program = installed / "bin" / "v-diffusion-checkpoints"
    done = run(program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (shipped,) = (line for line in done.stdout.splitlines() if line.startswith("emoji_64 "))
    assert str(installed) in shipped and shipped.endswith("shipped")
    cache = tmp_path / "cache" / "v-diffusion"
    mine = tmp_path / "mine"
    for folder, environment in (
        (cache, {"XDG_CACHE_HOME": str(tmp_path / "cache")}),
        (mine, {"V_DIFFUSION_CHECKPOINTS": str(mine)}),
    ):
        folder.mkdir(parents=True)
        (folder / "cc12m_1.pth").write_text("x")
        done = run(program, "list", cwd=tmp_path, **environment)
        (line,) = (line for line in done.stdout.splitlines() if line.startswith("cc12m_1 "))
        assert str(folder / "cc12m_1.pth") in line


def test_the_version_is_said_once():
    assert "version" not in (ROOT / "pyproject.toml").read_text().split("[tool")[0].replace(
        '"version"', ""
    )
