"""From a file to tensors by name, and from those into a model. Nothing in a file is executed."""

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..shell.console import listed, printable
from . import torchscript as archives
from .cards import CheckpointError

ZIP = b"PK\x03\x04"
SAFE = re.compile(rb".{6}\0\0\s*\{", re.DOTALL)  # a length in 8 bytes, then JSON
REMEDY = "save the model's state_dict() alone"
# Where training programs keep the weights of a network, and what they put before their names.
# Where there are several, the first is the one to draw with: a moving average.
NESTED = ("model_ema", "state_dict", "model")
PREFIXES = ("model_ema.", "module.", "_orig_mod.", "model.")


def read(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name, on the CPU, mapped from the disk where possible.

    Raises:
        CheckpointError: it is neither a state dict that torch.save or safetensors wrote, nor a
            TorchScript archive.
    """
    data = load(Path(path))
    _, places = unwrapped(data)
    if places:
        name = printable(path)
        raise CheckpointError(
            f"{name}: its weights are under {', '.join(map(repr, places))}; take them out with "
            f"python -m v_diffusion.weights convert {name} NEW.pth"
        )
    return plain(Path(path), data)


def load(path: Path) -> Any:
    """Return what a file holds: tensors, and only plain containers of them."""
    name = printable(path)
    try:
        with open(path, "rb") as file:
            head = file.read(16)
        if SAFE.match(head):
            from safetensors.torch import load_file

            return load_file(path)
        zipped = head.startswith(ZIP)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickles, and types of storages
            if zipped and archives.is_archive(path):
                return archives.read(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can make PyTorch raise nearly anything
        asks = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and asks:
            why = f"refused: it asks for {asks[1]!r}, and only tensors are read; {REMEDY}"
        else:
            why = getattr(error, "strerror", None) or "damaged, or not a checkpoint"
        raise CheckpointError(f"{name}: {why}") from None


def unwrapped(data: Any) -> tuple[Any, list[str]]:
    """Return the weights within what a training program saved, and under which names they were."""
    places = []
    while isinstance(data, Mapping):
        names = [key for key in NESTED if isinstance(data.get(key), Mapping)]
        starts = [p for p in PREFIXES if any(str(key).startswith(p) for key in data)]
        if names:
            place = names[0]
            data = data[place]
        elif starts and all(str(key).startswith(PREFIXES) for key in data):
            place = starts[0]
            data = {k.removeprefix(place): v for k, v in data.items() if k.startswith(place)}
        else:
            break
        places.append(place)
    return data, places


def has_numbers(tensor: Tensor) -> bool:
    """Tell if a tensor is an ordinary one: not sparse, nested, quantised or on "meta"."""
    odd = tensor.is_nested or tensor.is_quantized or tensor.is_meta
    return tensor.layout == torch.strided and not odd


def plain(path: Path, data: Any) -> dict[str, Tensor]:
    """Return the state dict that a file holds, if that is all that it holds."""
    name = printable(path)
    if not isinstance(data, Mapping) or not data:
        raise CheckpointError(f"{name}: it holds no state dict; {REMEDY}")
    for key, value in data.items():
        if not (isinstance(key, str) and isinstance(value, Tensor) and has_numbers(value)):
            raise CheckpointError(f"{name}: {key!r} is no ordinary tensor; {REMEDY}")
    return dict(data)


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Make the tensors of a file a model's own, even on "meta". Raise CheckpointError, which names
    the first few, if some are missing, unexpected or of another shape.
    """
    expected = model.state_dict()
    misfits = []
    for name in expected.keys() & tensors.keys():
        wanted, found = expected[name], tensors[name]
        if wanted.shape != found.shape or wanted.is_floating_point() != found.is_floating_point():
            shapes = f"expected {list(wanted.shape)}, found {list(found.shape)}"
            misfits.append(f"{name} ({shapes} of {found.dtype})")
    faults = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
        "of another shape or type": misfits,
    }
    told = [f"{fault}: {listed(names, 3)}" for fault, names in faults.items() if names]
    if told:
        raise CheckpointError(f"{printable(path)}: does not fit the model: {'; '.join(told)}")
    model.load_state_dict(tensors, strict=True, assign=True)
