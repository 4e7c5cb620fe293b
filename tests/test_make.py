"""What `make` would do."""

import os
import shutil
import subprocess

import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
INDEX = "--extra-index-url https://download.pytorch.org/whl/cpu"


def told(*args: str) -> list[str]:
    """The commands that it would run from the beginning, none of which is run."""
    command = ["make", "--dry-run", "--always-make", "--no-print-directory", *args]
    # What the make that may be running these tests was told is not for this one.
    own = ("CPU", "PYTHON", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")
    env = {name: value for name, value in os.environ.items() if name not in own}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [" ".join(line.split()) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "args, index", [([], ""), (["CPU=1"], f"{INDEX} "), (["CPU="], ""), (["CPU=0"], "")]
)
def test_sample(args, index):
    pip = ".venv/bin/python -m pip install --disable-pip-version-check"
    assert told("sample", *args) == [
        "python3 -m venv .venv",
        f"{pip} {index}-r requirements.txt",
        "touch .venv/installed",
        '.venv/bin/python clip_sample.py "$PROMPT" --model emoji_64 --seed 0',
    ]


def test_the_tests_own_requirements_come_from_there_too():
    assert [INDEX in line for line in told("test", "CPU=1") if "pip install" in line] == [True] * 2


def test_the_readme_tells():
    assert "`make sample CPU=1`" in (ROOT / "README.md").read_text()
