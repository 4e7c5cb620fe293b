"""How much memory a batch takes, before it takes it."""

import re
from pathlib import Path

import pytest
import torch

from CLIP.model import on_meta
from diffusion import get_model
from v_diffusion import Job, Studio
from v_diffusion.job.prompt import open_subject
from v_diffusion.shell.program import UserError
from v_diffusion.studio import available, estimate
from v_diffusion.studio.estimate import Evaluation, check_batch, peak
from v_diffusion.studio.sample import Aim, Models

MB = 1e6


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio("cpu")


def evaluation(studio: Studio, rows: int | None = None, **fields) -> Evaluation:
    job = Job("a", model="emoji_64", **fields)
    aim = studio.aim([job], [open_subject(job.prompts, (), None, job.prompt_weight)])
    studio.load(job)
    (plain,) = studio._plain.values()
    return Evaluation(job, plain, aim, None, rows)


@pytest.mark.parametrize(
    "fields, low, high",
    [
        ({"clip_guidance_scale": 0}, 1.0, 3.1),
        ({"clip_guidance_scale": 5}, 13, 21),
        ({"clip_guidance_scale": 5, "cutn": 32}, 20, 42),
        ({"script": "cfg_sample"}, 2.0, 5.9),
        ({"clip_guidance_scale": 0, "size": (128, 128)}, 4, 13),
    ],
)
def test_a_picture_more_takes_so_many_megabytes(studio, fields, low, high):
    """The upper ends were measured, as what a process grows by."""
    asked = evaluation(studio, **fields)
    each = (peak(asked, 6) - peak(asked, 2)) / 4 / MB
    assert low < each < high
    assert peak(asked, 64) / MB == pytest.approx(peak(asked, 6) / MB + 58 * each, rel=0.1)


def test_rows_at_once_bound_it(studio):
    few, all_ = (evaluation(studio, rows, script="cfg_sample") for rows in (2, None))
    assert peak(few, 64) < peak(all_, 64) / 3


def test_a_model_of_which_nothing_is_here():
    """CC12M_1 asks for 0.17 GB for each further picture, and no number is computed."""
    with on_meta():
        model = get_model("cc12m_1")().eval().requires_grad_(False)
    aim = Aim(torch.empty(1, 512))
    asked = Evaluation(Job("a", clip_guidance_scale=0), Models(model, None), aim, None, None)
    assert 0.1e9 < peak(asked, 2) - peak(asked, 1) < 0.4e9


@pytest.mark.parametrize("fields", [{"clip_guidance_scale": 5}, {"script": "cfg_sample"}])
def test_what_fits_is_drawn_and_what_does_not_is_told_how_much_does(studio, monkeypatch, fields):
    asked = evaluation(studio, **fields)

    def check(n: int, free: float, spare: float = 0) -> float:
        monkeypatch.setattr(estimate, "available", lambda _: free)
        models = Models(asked.model, asked.clip)
        return check_batch(n, asked.job, models, asked.aim, spare=spare)

    need = check(1000, 1e11)
    assert 2e9 < need < 30e9
    assert check(1000, need + 1) == need == check(1000, need / 2, need / 2 + 1)
    with pytest.raises(UserError) as caught:
        check(1000, need / 3)
    text = str(caught.value)
    assert text.startswith("--batch-size 1000: it would take about ")
    fits = int(re.search(r"take --batch-size (\d+), or less", text)[1])
    assert 300 < fits < 340 and check(fits, need / 3) <= need / 3
    with pytest.raises(UserError, match="take --batch-size 1, or less"):
        check(1000, 1)
    assert check(1, 1) == 0  # which nobody can make smaller
    assert check(2, 1e12) == 0  # which is not worth a look
    monkeypatch.setattr(estimate, "available", lambda _: None)
    assert check_batch(10**6, asked.job, Models(asked.model, asked.clip), asked.aim) == 0


def test_the_smallest_limit_counts(monkeypatch, tmp_path):
    files = {
        "meminfo": "MemTotal:  9 kB\nMemAvailable:    3000 kB\n",
        "memory.max": "5000000\n",
        "memory.current": "4500000\n",
        "memory.stat": "anon 1\ninactive_file 100000\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(available, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(available, "CGROUP", tmp_path)
    cpu = torch.device("cpu")
    assert available.available(cpu) == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available.available(cpu) == 3_072_000
    monkeypatch.setattr(available, "MEMINFO", Path("/none"))
    assert available.available(cpu) is None
    assert available.available(torch.device("mps")) is None
