"""Files of weights, for the tests of reading them."""

import io
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from v_diffusion.weights import tensors
from v_diffusion.weights.cards import CheckpointError


class Evil:
    """Makes the folder `path` when a pickle of it is loaded carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


DAMAGED = "damaged, or not a checkpoint"
NONE = "it holds no state dict; save the model's state_dict() alone"


def saved(data, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(data, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def message(folder: Path, content: bytes) -> str:
    """What `read` says of a file in a folder with these bytes, without its path."""
    path = folder / "net.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as failure:
        tensors.read(path)
    text = str(failure.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text.removeprefix(f"{path}: ")


def safe(state_dict) -> bytes:
    return safetensors.torch.save(state_dict)


STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}
