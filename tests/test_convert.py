"""Weights in another format, or taken out of what a training program saved."""

import os
from pathlib import Path

import pytest
import torch
from state_files import DAMAGED, STATE, message, safe, saved

from v_diffusion.shell.errors import UserError
from v_diffusion.weights import store, tensors
from v_diffusion.weights.cards import CheckpointError
from v_diffusion.weights.convert import convert

WRAPPED = {
    "module.": {f"module.{name}": tensor for name, tensor in STATE.items()},
    "_orig_mod.": {f"_orig_mod.{name}": tensor for name, tensor in STATE.items()},
    "model": {"model": STATE, "step": 3},
    "state_dict, model_ema.": {
        "state_dict": {
            **{f"model.{name}": torch.zeros(1) for name in STATE},
            **{f"model_ema.{name}": tensor for name, tensor in STATE.items()},
        },
        "epoch": 1,
    },
}


@pytest.mark.parametrize("places", WRAPPED)
def test_what_a_training_program_saved(tmp_path, caplog, places):
    """It is told what to do, and that does it."""
    path = tmp_path / "net.pth"
    quoted = ", ".join(map(repr, places.split(", ")))
    assert message(tmp_path, saved(WRAPPED[places])) == (
        f"its weights are under {quoted}; take them out with python -m v_diffusion.weights convert "
        f"{path} NEW.pth"
    )
    with caplog.at_level("INFO"):
        convert(path, tmp_path / "new.pth")
    assert caplog.messages == [f"{path}: took what is under {quoted}"]
    found = tensors.read(tmp_path / "new.pth")
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_safetensors_are_read(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(safe(STATE))
    found = tensors.read(path)
    assert found.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


def test_damaged_safetensors(tmp_path):
    for cut in (40, len(safe(STATE)) - 1):
        assert message(tmp_path, safe(STATE)[:cut]) == DAMAGED


@pytest.mark.parametrize("way", [("a.pth", "b.safetensors"), ("a.safetensors", "b.pth")])
def test_convert(tmp_path, monkeypatch, way):
    """There and back, with tensors that share memory or have gaps in it."""
    monkeypatch.chdir(tmp_path)
    source, target = map(Path, way)
    row = torch.arange(12.0)
    given = {**STATE, "row": row, "also": row, "gaps": row.view(3, 4).T}
    if source.suffix == ".pth":
        torch.save(given, source)
    else:
        source.write_bytes(
            safe({name: tensor.clone().contiguous() for name, tensor in given.items()})
        )
    convert(source, target)
    found = tensors.read(target)
    assert all(torch.equal(found[name], tensor) for name, tensor in given.items())
    assert found.keys() == given.keys()
    assert target.stat().st_mode == source.stat().st_mode and len(os.listdir()) == 2
    with pytest.raises(UserError, match=f"{target} is there already; remove it, or give ano"):
        convert(source, target)
    with pytest.raises(UserError, match="c.txt: the name has to end with .safetensors, "):
        convert(source, Path("c.txt"))
    with pytest.raises(CheckpointError, match="can't write none/c.pth: No such file or directory"):
        convert(source, Path("none/c.pth"))
    assert len(os.listdir()) == 2


def test_the_model_that_ships_as_safetensors(clip_sample, tmp_path):
    """Both networks; and the picture is the same."""
    run = ("red apple", "--model", "emoji_64", "--device", "cpu", "--steps", "2", "--no-metadata")
    for name in ("emoji_64", "emoji_64_clip"):
        convert(store.obtain(name), tmp_path / f"{name}.safetensors")
    assert clip_sample(*run).returncode == 0
    files = (
        "--checkpoint",
        "emoji_64.safetensors",
        "--clip-checkpoint",
        "emoji_64_clip.safetensors",
    )
    done = clip_sample(*run, *files, "--output", "safe.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "safe.png").read_bytes() == (tmp_path / "out_00000.png").read_bytes()
