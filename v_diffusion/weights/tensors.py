"""From a file to tensors by name, and from those into a model. Nothing in a file is executed."""

import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from .store import CheckpointError

ZIP = b"PK\x03\x04"
# The pickle that opens a file of torch.save in its format before 1.6, and how many open it in all.
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
LEGACY_PICKLES = 5
SAFE = re.compile(rb".{6}\0\0\s*\{", re.DOTALL)  # a length in 8 bytes, then JSON
PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|!--|html|head|body|\?xml)", re.IGNORECASE)


def read(path: str | Path, torchscript: bool = False) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU, mapped from the disk where its format allows.

    Args:
        path: a state dict that torch.save or safetensors wrote.
        torchscript: whether the file may be a TorchScript archive. Those hold code, so the file has
            to be one whose hash was checked, or one that the user named.

    Raises:
        CheckpointError: it is anything else. The message says what.
    """
    path = Path(path)
    if not path.is_file():
        what = "not a file" if path.exists() else "there is no such file"
        raise CheckpointError(f"{path}: {what}")
    try:
        with open(path, "rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    if not head:
        raise CheckpointError(f"{path}: the file is empty")
    if PAGE.match(head):
        raise CheckpointError(f"{path}: a web page (HTML), not a checkpoint")
    if head.startswith(ZIP):
        return read_zip(path, torchscript)
    if SAFE.match(head):
        return read_safe(path)
    return read_legacy(path, head)


def read_safe(path: Path) -> dict[str, Tensor]:
    """Reads what the safetensors library wrote: mapped, and nothing but tensors."""
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            return plain(path, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        text = one_line(error)
        raise CheckpointError(f"{path}: truncated or damaged safetensors: {text}") from None


def read_zip(path: Path, torchscript: bool) -> dict[str, Tensor]:
    """Reads what torch.save writes since 1.6, or a TorchScript archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.partition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError):
        # The table of contents is the last thing in a zip archive.
        raise CheckpointError(f"{path}: truncated: the end of the zip archive is missing") from None
    if "constants.pkl" in members:
        if not torchscript:
            raise CheckpointError(
                f"{path}: refused: a TorchScript archive, which holds code, not a state dict"
            )
        return plain(path, open_torchscript(path))
    if "data.pkl" not in members:
        raise CheckpointError(f"{path}: a zip archive, but not one that torch.save wrote")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise refusal(path, error) from None
    except Exception as error:  # a damaged file can make torch raise nearly anything
        raise CheckpointError(f"{path}: damaged: {one_line(error)}") from None
    return plain(path, data)


def read_legacy(path: Path, head: bytes) -> dict[str, Tensor]:
    """Reads what torch.save wrote before 1.6: some pickles, then the numbers."""
    if not (head.startswith(LEGACY) or LEGACY.startswith(head)):
        with open(path, "rb") as file:
            if is_pickle(file):
                raise CheckpointError(f"{path}: refused: a pickle that torch.save did not write")
        raise CheckpointError(f"{path}: not a checkpoint: neither a zip archive nor a pickle")
    with open(path, "rb") as file:
        if not all(is_pickle(file) for _ in range(LEGACY_PICKLES)):
            raise CheckpointError(f"{path}: truncated: its list of tensors ends too early")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise refusal(path, error) from None
    except Exception as error:  # likewise
        raise CheckpointError(f"{path}: truncated or damaged: {one_line(error)}") from None
    return plain(path, data)


def open_torchscript(path: Path) -> Mapping[str, Tensor]:
    with warnings.catch_warnings():
        # There is no other way to open the archives that were published.
        warnings.filterwarnings("ignore", message=".*torch.jit.load.*deprecated")
        load: Callable[..., nn.Module] = torch.jit.load
        try:
            return load(path, map_location="cpu").state_dict()
        except RuntimeError as error:
            text = one_line(error)
            raise CheckpointError(f"{path}: damaged TorchScript archive: {text}") from None


def is_pickle(file: BinaryIO) -> bool:
    """Whether a whole pickle comes next in the file, which is read to its end and not executed."""
    try:
        for _ in pickletools.genops(file):
            pass
    except Exception:  # any bytes may come here, and pickletools says nothing of what it raises
        return False
    return True


def one_line(error: Exception, limit: int = 120) -> str:
    """What an exception says, as one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[:limit] + "..."


def refusal(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    """What to say of a pickle that the weights-only reader has refused."""
    name = re.search(r"GLOBAL (\S+)", str(error))
    reason = f"it asks for {name[1]!r}, and" if name else "it holds more than tensors, but"
    return CheckpointError(f"{path}: refused: {reason} only tensors are read")


def plain(path: Path, data: Any) -> dict[str, Tensor]:
    """The state dict that a file holds, if that is all that it holds."""
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{path}: not a state dict: it holds a {type(data).__name__}")
    if not data:
        raise CheckpointError(f"{path}: not a state dict: it holds no tensor")
    for name, value in data.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            kind = type(value).__name__
            raise CheckpointError(f"{path}: not a plain state dict: {name!r} is of type {kind}")
    return dict(data)


def first_few(names: Sequence[str], n: int = 3) -> str:
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + more


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Makes the tensors a model's own, in place of those that it has (it may be on "meta").

    Args:
        model: gets every tensor, and needs every one.
        tensors: by name.
        path: where they came from, for the message.

    Raises:
        CheckpointError: names are missing or unexpected, or shapes wrong. It gives the first few.
    """
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: list(tensor.shape) for name, tensor in tensors.items()}
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    misshapen = [
        f"{name} (expected {shape}, found {found[name]})"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    faults = [f"{kind}: {first_few(names)}" for kind, names in kinds.items() if names]
    if faults:
        shared = len(expected) - len(missing)
        if 2 * shared < max(len(expected), len(found)):
            faults.append("this looks like another model's file")
        raise CheckpointError(f"{path}: does not fit the model: {'; '.join(faults)}")
    try:
        model.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: does not fit the model: {one_line(error)}") from None
