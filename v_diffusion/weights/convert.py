"""A file of weights in another format."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..shell.console import printable
from .store import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


class BadRequest(CheckpointError):
    """What was asked for can't be, whatever is in the files."""


Write = Callable[["dict[str, Tensor]", Path], None]


def write_safe(state_dict: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(state_dict, path, metadata={"format": "pt"})


def write_torch(state_dict: dict[str, Tensor], path: Path) -> None:
    import torch

    torch.save(state_dict, path)


FORMATS: dict[str, Write] = {".safetensors": write_safe, ".pth": write_torch, ".pt": write_torch}


def convert(source: Path, target: Path) -> None:
    """Writes the tensors of a file into another, whose suffix says the format: whole or not at all.

    Args:
        source: what `tensors.read` reads, a TorchScript archive too.
        target: a `.safetensors`, or a `.pth` or `.pt`: a state dict of torch.save.

    Raises:
        BadRequest: there is no such file, or it has no weights, or the target is there already or
            of no format.
        CheckpointError: it can't be written.
    """
    if target.suffix not in FORMATS:
        known = ", ".join(FORMATS)
        raise BadRequest(f"{printable(target)}: its end says no format; there are {known}")
    if target.exists():
        raise BadRequest(f"{printable(target)} is there already; remove it, or give another name")
    if not source.is_file():
        raise BadRequest(f"{printable(source)} is not a file; name one of weights")
    if not target.parent.is_dir():
        raise BadRequest(f"{printable(target.parent)} is not a folder; make it, or name another")
    partial = target.with_name(target.name + ".partial")
    try:
        partial.touch()
        write(source, partial, FORMATS[target.suffix])
        os.replace(partial, target)
    except OSError as error:
        raise CheckpointError(
            f"can't write {printable(target)}: {error.strerror or error}"
        ) from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write(source: Path, target: Path, write_format: Write) -> None:
    """Writes the tensors of a file into another, which is there.

    Raises:
        BadRequest: they can't be read.
        OSError: they can't be written.
    """
    from safetensors import SafetensorError

    from . import tensors  # imports PyTorch, which takes longer than to find a mistake

    try:
        found = tensors.read(source, torchscript=True)
    except CheckpointError as error:
        raise BadRequest(str(error)) from None
    # Neither format wants two names in one piece of memory, or gaps.
    owned = {name: tensor.detach().clone().contiguous() for name, tensor in found.items()}
    mode = target.stat().st_mode  # as the user has it; safetensors gives a file to him alone
    try:
        write_format(owned, target)
    except (RuntimeError, SafetensorError) as error:
        # They say in words of their own what the system said to them.
        size = sum(tensor.nbytes for tensor in owned.values())
        room = shutil.disk_usage(target.parent).free + target.stat().st_size
        reason = os.strerror(errno.ENOSPC) if room < size else tensors.one_line(error)
        raise OSError(errno.ENOSPC if room < size else errno.EIO, reason) from None
    target.chmod(mode)
