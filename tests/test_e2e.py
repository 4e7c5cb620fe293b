"""Whole runs at full size, against what the original program wrote."""

import json
import shutil

import numpy as np
import pytest
from conftest import DATA
from PIL import Image

CASES = json.loads((DATA / "e2e" / "e2e.json").read_text())


def levels(path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case["argv"]))
def test_the_picture_is_the_originals(
    case, clip_sample, cc12m_1_file, clip_vit_b_16_file, tmp_path
):
    shutil.copy(DATA / "e2e" / "prompt.png", tmp_path)
    files = ["--checkpoint", cc12m_1_file, "--clip-checkpoint", clip_vit_b_16_file]
    done = clip_sample(*case["argv"], *files, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out_00000.png\n"
    (expected,) = case["images"]
    ours, theirs = levels(tmp_path / "out_00000.png"), levels(DATA / "e2e" / expected)
    off = np.abs(ours - theirs)
    assert (off <= 1).mean() >= 0.999
