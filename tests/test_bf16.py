"""Drawing in bf16 on a CPU: fp32's numbers but for rounding, and what is said of it."""

from typing import Any

import numpy as np
import pytest
import torch
from networks import call_of, make
from test_plain_models import with_low_rank, with_sequentials, with_wrappers
from torch import Tensor, nn

from CLIP.model import half_precision
from v_diffusion import Job, Studio
from v_diffusion.compute import accelerate, accelerate_in_bf16, bf16
from v_diffusion.images import metadata
from v_diffusion.shell.errors import UserError
from v_diffusion.studio import models
from v_diffusion.studio.devices import pick_precision

QUICK = ("--model", "emoji_64", "--steps", "2", "-cs", "0", "--device", "cpu")


def in_bf16(name: str, checkpointing: bool = False) -> nn.Module:
    model = make(name)
    if name == "clip":
        half_precision(model.clip, torch.bfloat16)
        return model.requires_grad_(False)
    return accelerate_in_bf16(model, checkpointing)


def with_gradient(model: nn.Module, x: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    out = model(x, *rest).float()
    return out.detach(), torch.autograd.grad(out.square().sum() / 2, x)[0]


def off_by(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.fixture
def amx(monkeypatch) -> None:
    monkeypatch.setattr(bf16, "has", lambda _: True)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["cc12m_1", "unconditional", "emoji_64", "clip"])
def test_it_gives_the_models_numbers(amx, name, checkpointing, batch):
    """Rounded; gradients also lack what was rounded to the other side of a ReLU."""
    twin, args = in_bf16(name, checkpointing), call_of(name, batch)
    (v, grad), (exact, exact_grad) = (with_gradient(one, *args) for one in (twin, make(name)))
    assert 1e-4 < off_by(v, exact) < 0.02
    assert off_by(grad, exact_grad) < 0.15
    with torch.no_grad():
        assert torch.equal(twin(*args).float(), v)
    if name != "clip":
        assert twin(*args).dtype == torch.float32


def test_other_sizes_and_weights_of_fp16(amx):
    model, (_, *rest) = make("cc12m_1"), call_of("cc12m_1")
    twin = accelerate_in_bf16(model.half())
    for side in (32, 16, 64):
        x = torch.randn(2, 3, side, side)
        found = [with_gradient(one, x, *rest) for one in (twin, make("cc12m_1"))]
        assert off_by(found[0][0], found[1][0]) < 0.02
        assert off_by(found[0][1], found[1][1]) < 0.15


def test_without_amx_the_network_is_that_of_fp32(monkeypatch):
    monkeypatch.setattr(bf16, "has", lambda name: name != "amx_tile")
    args = call_of("cc12m_1")
    found, expected = (one(make("cc12m_1"))(*args) for one in (accelerate_in_bf16, accelerate))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("width", [1, models.MIN_WIDTH])
def test_without_amx_a_small_clip_is_that_of_fp32(monkeypatch, width):
    monkeypatch.setattr(bf16, "has", lambda name: name != "amx_tile")
    monkeypatch.setattr(models, "MIN_WIDTH", width)
    job = Job("fox", model="emoji_64", steps=2)
    pictures = [Studio("cpu", precision=one).draw(job) for one in ("bf16", "fp32")]
    off = np.subtract(*(np.asarray(one, dtype=int) for one in pictures))
    # A large one's embeddings are rounded.
    assert 0 < abs(off).max() <= 12 if width == 1 else not off.any()


@pytest.mark.parametrize("change", [with_low_rank, with_sequentials, with_wrappers])
def test_replaced_layers_are_used(amx, change):
    model, args = make("cc12m_1"), call_of("cc12m_1")
    change(model)
    found = with_gradient(accelerate_in_bf16(model), *args)
    assert off_by(found[0], with_gradient(model, *args)[0]) < 0.02


def test_a_processor_for_which_onednn_packs_nothing(amx, monkeypatch):
    args, expected = call_of("cc12m_1"), with_gradient(in_bf16("cc12m_1"), *call_of("cc12m_1"))
    monkeypatch.setattr(bf16, "packs", lambda: False)
    found = with_gradient(in_bf16("cc12m_1"), *args)
    assert off_by(found[0], expected[0]) < 0.02 and off_by(found[1], expected[1]) < 0.15


def test_a_picture_is_that_of_fp32_but_for_rounding(amx):
    job = Job("red apple", model="emoji_64", method="ddim", steps=10, clip_guidance_scale=0)
    found: list[Any] = [
        np.asarray(Studio("cpu", precision=one).draw(job)).astype(int) for one in ("bf16", "fp32")
    ]
    off = np.abs(found[0] - found[1])
    assert 0 < off.mean() < 1 and off.max() <= 12


def test_strong_guidance_stays_finite(amx):
    job = Job("fox", model="emoji_64", steps=3, clip_guidance_scale=500)
    assert Studio("cpu", precision="bf16").draw(job).size == (64, 64)


@pytest.mark.parametrize(
    "precision, device, message",
    [
        ("fp16", "cpu", "--precision: fp16 is not for CPU; use bf16 or fp32"),
        ("bf16", "mps", "--precision: bf16 is not for MPS; use fp32"),
        ("fp8", "cpu", "--precision: fp8 is not for CPU; use bf16 or fp32"),
    ],
)
def test_a_precision_that_a_device_lacks(precision, device, message):
    with pytest.raises(UserError) as caught:
        pick_precision(precision, torch.device(device))
    assert str(caught.value) == message


def test_by_default_it_is_the_devices():
    found = [pick_precision(None, torch.device(one)) for one in ("cpu", "cuda", "mps")]
    assert found == ["fp32", "fp16", "fp32"]
    studios = [Studio("cpu", precision=one).unusual_precision for one in (None, "fp32", "bf16")]
    assert studios == [None, None, "bf16"]


def test_a_slow_processor_is_told_and_draws(monkeypatch, caplog):
    monkeypatch.setattr(bf16, "has", lambda _: False)
    job = Job("fox", model="emoji_64", steps=1, clip_guidance_scale=0)
    assert Studio("cpu", precision="bf16").draw(job)
    why = "this processor has neither AMX nor AVX-512 BF16"
    told = [record.getMessage() for record in caplog.records]
    assert f"warning: --precision bf16 is slower than fp32 here: {why}" in told


def test_it_is_recorded_resumed_and_drawn_again(clip_sample, tmp_path):
    done = clip_sample("fox", *QUICK, "--precision", "bf16", "--output", "a.png")
    assert done.returncode == 0, done.stderr
    made = metadata.read(tmp_path / "a.png")
    assert made["precision"] == "bf16" and "--precision bf16" in made["command"]
    done = clip_sample("fox", *QUICK, "--output", "a.png", "--resume")
    text = 'a.png has other settings: precision is "bf16" there and null here'
    assert done.returncode == 2 and text in done.stderr
    done = clip_sample("--again", "a.png", "--device", "cpu", "--output", "b.png")
    assert metadata.read(tmp_path / "b.png")["precision"] == "bf16", done.stderr
    clip_sample("fox", *QUICK, "--output", "c.png", "--precision", "fp32")
    assert metadata.read(tmp_path / "c.png")["precision"] is None
    done = clip_sample("--again", "a.png", "c.png", "--output", "{i}.png")
    text = "--again: these images were drawn in different precisions; give a --precision for all"
    assert done.returncode == 2 and text in done.stderr
