"""Whole runs at full size, against what the original program wrote."""

import shutil

import numpy as np
import pytest
import torch
from conftest import DATA, levels
from whole_runs import EARLIER, LATER, Lent, model_of, order_of, share_within_one_level

from CLIP import clip
from v_diffusion.studio.models import Models, for_drawing, load_model

*IN_PROCESS, BY_SCRIPT = EARLIER
IN_PROCESS += [case for case in LATER if model_of(case).startswith("cc12m_1")]


@pytest.mark.slow
def test_the_scripts_picture_is_the_originals(
    clip_sample, cc12m_1_file, clip_vit_b_16_file, tmp_path
):
    shutil.copy(DATA / "e2e" / "prompt.png", tmp_path)
    files = ["--checkpoint", cc12m_1_file, "--clip-checkpoint", clip_vit_b_16_file]
    done = clip_sample(*BY_SCRIPT["argv"], *files, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out_00000.png\n"
    (expected,) = BY_SCRIPT["images"]
    off = np.abs(levels(tmp_path / "out_00000.png") - levels(DATA / "e2e" / expected))
    assert (off <= 1).mean() >= 0.999


@pytest.fixture(scope="module")
def cc12m(cc12m_1_file, clip_vit_b_16_file) -> Lent:
    """The stand-ins of CC12M_1 and of its CLIP; cc12m_1_cfg's are the same."""
    cpu = torch.device("cpu")
    clip_model, _ = clip.load(clip_vit_b_16_file, cpu)
    model = load_model("cc12m_1", cc12m_1_file, cpu)
    return Lent(for_drawing(Models(model, clip_model), cpu, checkpointing=False))


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", IN_PROCESS, ids=lambda case: " ".join([case["script"], *case["argv"]])
)
def test_the_picture_is_the_originals(case, cc12m, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert share_within_one_level(order_of(case, tmp_path), cc12m, case) >= 0.999
