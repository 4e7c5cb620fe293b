"""The memory that a batch needs, and the memory that is free."""

import pytest
import torch

from v_diffusion import Job
from v_diffusion.shell.errors import UserError
from v_diffusion.studio import memory
from v_diffusion.studio.memory import check_batch, needed

CPU = torch.device("cpu")
GUIDED = Job("a", model="emoji_64", clip_guidance_scale=5)
CFG = Job(["a", "b"], model="emoji_64", script="cfg_sample")


@pytest.mark.parametrize(
    "job, options, megabytes",
    [
        (Job("a", model="emoji_64", clip_guidance_scale=0), {}, 1.6 + 0.295),
        (Job("a", model="emoji_64", clip_guidance_scale=0, size=(128, 64)), {}, 2 * (1.6 + 0.295)),
        (GUIDED, {}, 8.6 + 16 * 0.35 + 0.295),
        (GUIDED, {"checkpointing": True}, 1.6 + 4 * 0.35 + 0.295),
        (CFG, {}, 3 * 1.6 + 0.295),
        (CFG, {"cfg_batch": 10}, 0.1 * 1.6 + 0.295),
    ],
)
def test_each_picture_needs_what_the_cards_say(job, options, megabytes):
    assert needed(job, 100, **options) == pytest.approx(100 * megabytes * 1e6, rel=1e-3)


def check(job: Job, n: int, held: int = 0) -> None:
    check_batch(job, n, needed(job, n), CPU, held)


def test_a_batch_that_does_not_fit_is_told_how_much_does(monkeypatch):
    free = 1e9
    monkeypatch.setattr(memory, "available", lambda _: int(free))
    check(GUIDED, 10)
    with pytest.raises(UserError) as caught:
        check(GUIDED, 200)
    text = "--batch-size 200: needs about 2.9 GB of memory, and 1.0 GB are free; use at most 68"
    assert str(caught.value) == text
    check(GUIDED, 68)
    # Memory that this process holds already counts as free.
    check(GUIDED, 200, held=needed(GUIDED, 200) - int(free))
    free = 1
    check(GUIDED, 1)  # which cannot be made smaller
    large = Job("a", model="emoji_64", size=(1024, 1024))
    with pytest.raises(UserError, match="--size 1024 1024: needs about .* use a smaller size"):
        check(large, 1)
    monkeypatch.setattr(memory, "available", lambda _: None)
    check(GUIDED, 10**6)


def test_the_smallest_limit_counts(monkeypatch, tmp_path):
    """Of the system, of this process's cgroup and of those that it is nested in."""
    inner = tmp_path / "slice" / "job"
    inner.mkdir(parents=True)
    (tmp_path / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:    3000 kB\n")
    (tmp_path / "cgroup").write_text("0::/slice/job\n")
    for folder, limit in ((inner, "max"), (inner.parent, "5000000")):
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text("4500000\n")
        (folder / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    assert memory.available(CPU) == 600_000
    (inner / "memory.max").write_text("4700000")
    assert memory.available(CPU) == 300_000
    for folder in (inner, inner.parent):
        (folder / "memory.max").write_text("max\n")
    assert memory.available(CPU) == 3_072_000
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    assert memory.available(CPU) is None
    assert memory.available(torch.device("mps")) is None
