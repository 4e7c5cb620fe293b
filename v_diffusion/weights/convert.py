"""A file of weights in another format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..shell.console import one_line, printable
from ..shell.errors import UserError
from ..shell.writing import drafted, sweep
from .cards import CheckpointError
from .download import need_room

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = (".safetensors", ".pth", ".pt")


def convert(source: Path, target: Path) -> None:
    """Write the tensors of a file into another, whole or not at all.

    What a training program has put around them is left out: the dict that they are in, or a prefix
    of all their names.

    Args:
        source: what `tensors.load` reads.
        target: a `.safetensors`, or a `.pth` or `.pt`: a state dict of torch.save.

    Raises:
        UserError: the source has no weights, or the target is there already or of no format.
        CheckpointError: it can't be written.
    """
    name = printable(target)
    if target.suffix not in FORMATS:
        raise UserError(f"{name}: the name has to end with {', '.join(FORMATS[:-1])} or .pt")
    if target.exists():
        raise UserError(f"{name} is there already; remove it, or give another name")
    try:
        sweep(target.parent)
        with drafted(target) as draft:
            write(read(source), draft, target.suffix)
    except OSError as error:
        raise CheckpointError(f"can't write {name}: {error.strerror or error}") from None


def read(source: Path) -> dict[str, Tensor]:
    """Return the tensors of a file. Raise UserError where it has none that can be read."""
    from . import tensors  # imports PyTorch, which takes longer than to find a mistake

    try:
        data, _ = tensors.unwrapped(tensors.load(source))
        found = tensors.plain(source, data)
    except CheckpointError as error:
        raise UserError(str(error)) from None
    # Neither format wants two names in one piece of memory, or gaps.
    return {name: tensor.detach().clone().contiguous() for name, tensor in found.items()}


def write(state_dict: dict[str, Tensor], path: Path, suffix: str) -> None:
    """Write tensors in the format of a suffix. Raise OSError where they can't be written."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    need_room(path.parent, sum(tensor.nbytes for tensor in state_dict.values()))
    try:
        if suffix == ".safetensors":
            save_file(state_dict, path, metadata={"format": "pt"})
        else:
            torch.save(state_dict, path)
    except (RuntimeError, SafetensorError) as error:  # how they say that the disk is full, too
        raise OSError(one_line(str(error))) from None
