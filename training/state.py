"""Training state on disk: a file that is whole or not there."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def save(data: dict[str, Any], path: Path) -> None:
    """Writes a file beside its place and renames it into it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(data, partial)
    os.replace(partial, path)


def save_run(
    path: Path,
    step: int,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: dict[str, Tensor],
) -> None:
    """Writes all that a run needs to go on."""
    data = {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    save({**data, "tensors": tensors}, path)


def restore(
    path: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: dict[str, Tensor],
) -> int:
    """Loads what `save_run` wrote and returns the steps done; 0 where there is no such file."""
    if not path.is_file():
        return 0
    data = torch.load(path, weights_only=True)
    model.load_state_dict(data["model"])
    optimizer.load_state_dict(data["optimizer"])
    for name, tensor in tensors.items():
        tensor.copy_(data["tensors"][name])
    step: int = data["step"]
    return step
