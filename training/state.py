"""A training run: its steps, and its state on disk, in a file that is whole or not there."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm


def schedule(step: int, warmup: int, steps: int) -> float:
    """Return the share of the highest rate: linear warm-up, then half a cosine down to 0.02."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def groups(parameters: Iterable[nn.Parameter], lr: float, decay: float) -> list[dict[str, Any]]:
    """Return an optimizer's groups: matrices decay, gains and biases don't."""
    every = list(parameters)
    matrices, others = ([p for p in every if (p.ndim > 1) is wanted] for wanted in (True, False))
    return [
        {"params": matrices, "peak": lr, "weight_decay": decay},
        {"params": others, "peak": lr, "weight_decay": 0.0},
    ]


def steps_of(
    recipe: Any, optimizer: torch.optim.Optimizer, name: str, first: int = 0
) -> Iterator[int]:
    """Yield the steps that are left of a recipe, each with its own seed and learning rates.

    Args:
        optimizer: each of its groups has its highest rate as `peak`.
    """
    steps = range(first, recipe.steps)
    for step in tqdm(steps, initial=first, total=recipe.steps, desc=name, disable=None):
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * schedule(step, recipe.warmup, recipe.steps)
        yield step


def descend(
    loss: Tensor, optimizer: torch.optim.Optimizer, clipped: nn.Module | None = None
) -> None:
    """Take a step down the gradient, for a module at most as long as 1."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    if clipped is not None:
        nn.utils.clip_grad_norm_(clipped.parameters(), 1.0)
    optimizer.step()


def save(data: dict[str, Any], path: Path) -> None:
    """Write a file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")  # the file's bytes have its stem in them
    torch.save(data, partial)
    partial.replace(path)


def save_run(
    path: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: dict[str, Tensor],
) -> None:
    """Write all that a run needs to go on."""
    data = {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    save({**data, "tensors": tensors}, path)


def restore(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> int:
    """Load what `save_run` wrote, and return the steps done: 0 where there is no such file."""
    if not path.is_file():
        return 0
    data = torch.load(path, weights_only=True)
    model.load_state_dict(data["model"])
    optimizer.load_state_dict(data["optimizer"])
    for name, tensor in tensors.items():
        tensor.copy_(data["tensors"][name])
    step: int = data["step"]
    return step
